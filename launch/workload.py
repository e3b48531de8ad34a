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

# Long chains of thought, with all that is stored in bfloat16: 512 questions x 8 responses, as many
# sequences in a micro-batch and questions at once in the sampler as there are data shards.
REFERENCE: Mapping[str, Any] = {
    "model.param_dtype": "bfloat16",
    "model.compute_dtype": "bfloat16",
    "model.remat": True,
    "train.moment_dtype": "bfloat16",
    "data.questions_per_step": 512,
    "data.max_prompt_length": 1024,
    "rollout.group_size": 8,
    "rollout.max_response_length": 3072,
    "algorithm.bundle_size": 4,
}
_A_SHARD_EACH = ("train.micro_batch_size", "rollout.questions_at_once")


def reference_config(settings: Mapping[str, Any], chips: int) -> Config:
    """The reference workload on so many chips, with the `settings` that are given in place of its own.

    Raises:
      UserError: settings that contradict each other.
    """
    config = from_flat({**REFERENCE, **settings})
    tensor = max(config.mesh.tensor, 1)
    shards = max(chips // tensor, 1)
    a_shard_each = {name: shards for name in _A_SHARD_EACH if name not in settings}
    questions = config.data.questions_per_step
    if "rollout.questions_at_once" in a_shard_each and questions % shards:
        del a_shard_each["rollout.questions_at_once"]  # the mesh's own check says it better
    sequences = questions * config.rollout.group_size // config.train.minibatches
    if "train.micro_batch_size" in a_shard_each and sequences % shards:
        del a_shard_each["train.micro_batch_size"]
    return resolve(from_flat({**REFERENCE, **a_shard_each, **settings}))


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
