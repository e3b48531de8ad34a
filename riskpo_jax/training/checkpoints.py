"""Orbax checkpoints of the train state: asynchronous, the latest and the best kept."""

from __future__ import annotations

import contextlib
import math
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from riskpo_jax.errors import UserError
from riskpo_jax.training.state import TrainState

METRIC = "pass@1"
_ITEM = "default"  # the folder that Orbax gives to the one item of a step


def _score(metrics: dict[str, float]) -> float:
    """What was not evaluated is never the best."""
    return metrics.get(METRIC, -math.inf)


class Checkpoints:
    """The checkpoints of one run, by step.

    `save` returns when the state is copied off the devices and writes in the background; a checkpoint
    appears under its step only when it is complete, so a kill leaves the one before.
    """

    def __init__(
        self, directory: Path, keep_last: int = 1, keep_best: int = 0, *, read_only: bool = False
    ):
        """read_only: a run may be writing there, so what is unfinished is not cleared away."""
        best = BestN(get_metric_fn=_score, n=keep_best)
        self._directory = directory
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy([LatestN(keep_last), best]),
                best_fn=_score,  # without it metrics stay in memory, and a resumed run forgets them
                cleanup_tmp_directories=not read_only,
            ),
        )

    def latest_step(self) -> int | None:
        return self._manager.latest_step()

    def save(self, state: TrainState, step: int, pass_at_1: float | None) -> None:
        """Starts writing `state`; one that was evaluated competes for best by mean pass@1."""
        # Not None: Orbax would warn at every step without an evaluation.
        metrics = {} if pass_at_1 is None else {METRIC: pass_at_1}
        self._manager.save(step, args=ocp.args.StandardSave(state), metrics=metrics)

    def restore(self, like: TrainState, step: int | None = None) -> TrainState:
        """The state of `step`, by default the latest, read right into the places of `like`.

        like: arrays, or ShapeDtypeStructs with shardings.

        Raises:
          UserError: no such checkpoint, or one of another shape.
        """
        step = self._existing(step)
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError) as error:
            raise self._misfit(step, "model and optimizer", error) from error

    def restore_params(self, like_params: Any, step: int | None = None) -> Any:
        """The state's `params` alone, in the types and places of `like_params`; the rest is not read.

        Raises:
          UserError: as `restore`.
        """
        step = self._existing(step)
        folder = self._directory.absolute() / str(step) / _ITEM
        like = {"params": jax.tree.map(ocp.utils.to_shape_dtype_struct, like_params)}
        places = ocp.checkpoint_utils.construct_restore_args(like)
        with contextlib.closing(ocp.PyTreeCheckpointHandler()) as handler:
            stored, wanted = _paths(handler.metadata(folder).tree["params"]), _paths(like_params)
            if stored != wanted:
                raise self._misfit(step, "model", f"{min(stored ^ wanted)} is only in one of them")
            part = ocp.args.PyTreeRestore(like, restore_args=places, partial_restore=True)
            try:
                return handler.restore(folder, args=part)["params"]
            except ValueError as error:
                raise self._misfit(step, "model", error) from error

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()

    def _existing(self, step: int | None) -> int:
        step = self.latest_step() if step is None else step
        if step not in self._manager.all_steps():
            steps = ", ".join(map(str, sorted(self._manager.all_steps()))) or "none"
            raise UserError(
                f"{self._directory} holds no checkpoint of step {step}; its steps are: {steps}"
            )
        return step

    def _misfit(self, step: int, what: str, reason: Exception | str) -> UserError:
        first_line = str(reason).partition("\n")[0]
        return UserError(
            f"checkpoint {self._directory / str(step)} does not fit this {what}: {first_line}"
        )


def _paths(tree: Any) -> set[str]:
    leaves, _ = jax.tree.flatten_with_path(tree)
    return {jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves}
