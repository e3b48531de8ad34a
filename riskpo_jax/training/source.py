"""A model that a run or another program left: a run's latest checkpoint, one of a step, a directory."""

from __future__ import annotations

import contextlib
import functools
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from riskpo_jax.config import Config, from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.hf import open_checked
from riskpo_jax.models.safetensors_files import DTYPES
from riskpo_jax.reporting.run_dir import RunDir, read_config
from riskpo_jax.training import weights
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.training.setup import Policy


@dataclass(frozen=True)
class Source:
    """The settings that a model was made with and, of a run, its checkpoint (step None: the latest).

    A Hugging Face directory is the model of a run that has not begun, in the type of its files.
    """

    config: Config
    run: RunDir | None = None
    step: int | None = None

    @property
    def needs_weights(self) -> bool:
        """Whether those of `model.path` are part of it, beside the checkpoint if there is one."""
        return self.run is None or self.config.lora.rank > 0


def find_source(path: Path, model_path: str | None = None, flag: str = "checkpoint") -> Source:
    """What lies at `path`: a run's folder, RUN/checkpoints/N or a Hugging Face model directory.

    model_path: where the model that the run began with is now, if not where its settings say. flag: what
    `path` was given with. Raises UserError for anything else at `path`, and for settings or tensors that
    do not fit together.
    """
    place = path.resolve()  # which may be given as "." or "5"
    is_step = place.parent.name == "checkpoints" and place.name.isdecimal()
    run = RunDir(place.parents[1] if is_step else path)
    if run.flags.exists():
        if not run.checkpoints.is_dir():
            raise UserError(f"--{flag}={path}: the run has not saved a checkpoint yet")
        config = resolve(from_flat(read_config(run.config)))
        config = replace(config, lora=replace(config.lora, path=""))  # only the start was there
        if model_path:
            config = replace(config, model=replace(config.model, path=model_path))
        return Source(config, run, int(place.name) if is_step else None)
    if is_step or not (path / "config.json").exists():
        raise UserError(
            f"--{flag}={path} is no run's folder, no RUN/checkpoints/N and no Hugging Face model "
            "directory"
        )
    tensors = open_checked(path, DecoderConfig.from_directory(path))
    dtypes = (DTYPES[tensor.dtype] for tensor in tensors.values())
    settings = {
        "model.path": str(path),
        "model.param_dtype": functools.reduce(jnp.promote_types, dtypes).name,
        "data.max_prompt_length": 1,  # a limit on the model's context, which is as it is
        "rollout.max_response_length": 1,
    }
    return Source(from_flat(settings))


def at_step(source: Source) -> Source:
    """`source` with the step of its checkpoint named, if it is of a run. Touches no device.

    Raises:
      UserError: there is no such checkpoint.
    """
    if source.run is None:
        return source
    folder = source.run.checkpoints
    steps = sorted(int(path.name) for path in folder.iterdir() if path.name.isdecimal())
    step = steps[-1] if source.step is None and steps else source.step
    if step not in steps:
        known = ", ".join(map(str, steps)) or "none"
        raise UserError(f"{folder} holds no checkpoint of step {step}; its steps are: {known}")
    return replace(source, step=step)


def load_params(source: Source, policy: Policy, mesh: Mesh, dtype: jnp.dtype) -> Any:
    """The parameters of a plain model in `dtype`, with adapters that were trained added to them.

    Raises:
      UserError: no such checkpoint, or one that does not fit the model.
    """
    parts = (source.config, policy, mesh)
    if source.run is None:
        trained = weights.load_trained(*parts)
    else:
        shapes = weights.trained_shapes(policy.model, mesh)
        with contextlib.closing(Checkpoints(source.run.checkpoints, read_only=True)) as checkpoints:
            trained = checkpoints.restore_params(shapes, source.step)
    if policy.model.lora is None:
        return _cast(trained, dtype)
    # Read in the type that the adapters were trained beside, which may have rounded it.
    frozen = _cast(weights.load_frozen(*parts), dtype)
    return weights.merged(policy.model, frozen, trained)


def _cast(params: Any, dtype: jnp.dtype) -> Any:
    """`params` in `dtype`; takes their place, array by array, so that there are never two models."""

    def cast(x: jax.Array) -> jax.Array:
        if x.dtype == dtype:
            return x
        result = x.astype(dtype).block_until_ready()
        x.delete()
        return result

    return jax.tree.map(cast, params)
