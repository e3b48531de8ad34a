"""Whether a plan fits, and what to change where it does not. Arithmetic on what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping

from launch.measure import GIB, Measured
from riskpo_jax.config import Config


def misfit(
    config: Config, measured: Mapping[str, Measured], capacity: float, chips: int, shards: int
) -> str | None:
    """One line on the program that exceeds the capacity by most, or None where all fit.

    Args:
      measured: each program's, by name.
      capacity: bytes that a chip has for a program.
      shards: parts that a batch is divided into, data x fsdp.
    """
    name, worst = max(measured.items(), key=lambda item: item[1].memory.total)
    memory, least = worst.memory, "" if worst.costs else "at least "
    if memory.total <= capacity:
        return None
    lasting = memory.arguments + memory.beside
    return (
        f"does not fit: {name} needs {least}{memory.total / GIB:.2f} GiB a chip, "
        f"{(memory.total - capacity) / GIB:.2f} more than the {capacity / GIB:.2f} there are "
        f"(arguments {memory.arguments / GIB:.2f}, temporaries {memory.temporaries / GIB:.2f}, "
        f"beside it {memory.beside / GIB:.2f}): {_remedy(config, name, lasting, capacity, chips, shards)}"
    )


def _remedy(
    config: Config, name: str, lasting: int, capacity: float, chips: int, shards: int
) -> str:
    """What to change first: what costs nothing, then what costs time, then what costs chips."""
    if lasting > capacity:
        fewest = chips * lasting / capacity
        more = f"at least {math.ceil(fewest)} such chips, as the state alone takes {lasting / GIB:.2f} GiB"
        if shards > config.mesh.fsdp:  # several copies of it
            more = (
                f"divide the state by a larger --mesh fsdp (now {config.mesh.fsdp}), or take {more}"
            )
        return _smaller_types(config) or more
    if name == "rollout":
        rows = config.rollout.questions_at_once or config.data.questions_per_step
        if rows > shards:
            return (
                f"lower --rollout.questions_at_once={rows}, {rows // shards} a data shard, to as few "
                f"as {shards}"
            )
        return (
            "raise tensor in --mesh, or lower --rollout.group_size="
            f"{config.rollout.group_size} or --rollout.max_response_length="
            f"{config.rollout.max_response_length}"
        )
    if not config.model.remat:
        return "give --model.remat, which recomputes layers instead of keeping their activations"
    rows = config.train.micro_batch_size or config.sequences_per_update
    if rows > shards:
        return f"lower --train.micro_batch_size={rows}, {rows // shards} a data shard, to as few as {shards}"
    return _smaller_types(config) or (
        f"raise tensor in --mesh (now {config.mesh.tensor}), take more chips, or lower "
        f"--rollout.max_response_length={config.rollout.max_response_length}"
    )


def _smaller_types(config: Config) -> str | None:
    flags = [
        f"--{name}=bfloat16 (now float32)"
        for name, dtype in (
            ("train.moment_dtype", config.train.moment_dtype),
            ("model.param_dtype", config.model.param_dtype),
        )
        if dtype == "float32" and not config.lora.rank
    ]
    return f"give {' and '.join(flags)}" if flags else None
