"""Orbax checkpoints of the train state: asynchronous, the latest and the best kept."""

from __future__ import annotations

import math
from pathlib import Path

import jax
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, BestN, LatestN

from riskpo_jax.errors import UserError
from riskpo_jax.training.state import TrainState

METRIC = "pass@1"


def _score(metrics: dict[str, float]) -> float:
    """What was not evaluated is never the best."""
    return metrics.get(METRIC, -math.inf)


class Checkpoints:
    """The checkpoints of one run, by step.

    `save` returns when the state is copied off the devices and writes in the background; a checkpoint
    appears under its step only when it is complete, so a kill leaves the one before.
    """

    def __init__(self, directory: Path, keep_last: int = 1, keep_best: int = 0):
        best = BestN(get_metric_fn=_score, n=keep_best)
        self._directory = directory
        self._manager = ocp.CheckpointManager(
            directory.absolute(),
            options=ocp.CheckpointManagerOptions(
                preservation_policy=AnyPreservationPolicy([LatestN(keep_last), best]),
                best_fn=_score,  # without it metrics stay in memory, and a resumed run forgets them
                cleanup_tmp_directories=True,
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
        """The state of `step`, by default the latest, placed as the arrays of `like` are.

        Raises:
          UserError: no such checkpoint, or one of another shape.
        """
        step = self.latest_step() if step is None else step
        if step not in self._manager.all_steps():
            steps = ", ".join(map(str, sorted(self._manager.all_steps()))) or "none"
            raise UserError(
                f"{self._directory} holds no checkpoint of step {step}; its steps are: {steps}"
            )
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        try:
            return self._manager.restore(step, args=ocp.args.StandardRestore(abstract))
        except (ValueError, KeyError) as error:
            reason = str(error).partition("\n")[0]
            raise UserError(
                f"checkpoint {self._directory / str(step)} does not fit this model and optimizer: {reason}"
            ) from error

    def close(self) -> None:
        """Waits for what is being written."""
        self._manager.wait_until_finished()
        self._manager.close()
