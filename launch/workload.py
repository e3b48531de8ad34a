"""What is planned: a run's own settings, or a reference workload where none are given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from riskpo_jax.config import Config, from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.known import KNOWN, known

# Long chains of thought, with all that is stored in bfloat16: 512 questions x 8 responses, one response of
# full length a data shard in a micro-batch.
REFERENCE: Mapping[str, Any] = {
    "model.param_dtype": "bfloat16",
    "model.compute_dtype": "bfloat16",
    "model.remat": "all",
    "train.moment_dtype": "bfloat16",
    "train.tokens_per_micro_batch": 3072,
    "data.questions_per_step": 512,
    "data.max_prompt_length": 1024,
    "rollout.group_size": 8,
    "rollout.max_response_length": 3072,
    "algorithm.bundle_size": 4,
}
_SLOTS_A_SHARD = 16


def reference_config(settings: Mapping[str, Any], chips: int) -> Config:
    """The reference workload on so many chips, with the `settings` that are given in place of its own.

    Two questions' responses are decoded at the same time on every data shard of the rollout.

    Raises:
      UserError: settings that contradict each other.
    """
    config = from_flat({**REFERENCE, **settings})
    shards = max(chips // (config.rollout.tensor or config.mesh.tensor), 1)
    slots = min(_SLOTS_A_SHARD * shards, config.sequences_per_step)
    return resolve(from_flat({**REFERENCE, "rollout.slots": slots, **settings}))


def find_model(name: str) -> tuple[str, DecoderConfig]:
    """The name to print and the shape of a model: a directory's, or a published one's.

    Raises:
      UserError: neither.
    """
    if (Path(name) / "config.json").exists():
        return Path(name).name, DecoderConfig.from_directory(name)
    short = Path(name).name.removesuffix("-Instruct").removesuffix("-instruct")
    try:
        shape = known(short)
        return next(full for full, known_shape in KNOWN.items() if known_shape is shape), shape
    except UserError as error:
        raise UserError(
            f"--model={name} is not a directory with a config.json, and {error}"
        ) from None


def with_mesh(config: Config, sizes: Mapping[str, int]) -> Config:
    """The configuration with `mesh.data` and so on as given."""
    changes = {name.removeprefix("mesh."): size for name, size in sizes.items()}
    return dataclasses.replace(config, mesh=dataclasses.replace(config.mesh, **changes))
