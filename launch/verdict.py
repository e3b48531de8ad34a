"""Whether a plan fits, and what to change where it does not. Arithmetic on what was measured."""

from __future__ import annotations

import math
from collections.abc import Mapping

from launch.measure import GIB, Measured
from launch.programs import UPDATE
from riskpo_jax.config import Config


def misfit(
    config: Config, measured: Mapping[str, Measured], capacity: float, chips: int, shards: int
) -> str | None:
    """One line on a program that exceeds the capacity, or None where all fit.

    The one that does by most, of the update if any of these does: the rollout has the room that state leaves.

    Args:
      measured: each program's, by name.
      capacity: bytes that a chip has for a program.
      shards: parts that a batch is divided into, data x fsdp.
    """
    large = {name: m for name, m in measured.items() if m.memory.total > capacity}
    if not large:
        return None
    first = {name: m for name, m in large.items() if name in UPDATE} or large
    name, worst = max(first.items(), key=lambda item: item[1].memory.total)
    memory, least = worst.memory, "" if worst.costs else "at least "
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
    if name not in UPDATE:
        return _remedy_of_rollout(config, name, chips, shards)
    if lasting > capacity:
        fewest = chips * lasting / capacity
        more = f"at least {math.ceil(fewest)} such chips, as the state alone takes {lasting / GIB:.2f} GiB"
        if shards > config.mesh.fsdp:  # several copies of it
            more = (
                f"divide the state by a larger --mesh fsdp (now {config.mesh.fsdp}), or take {more}"
            )
        return _smaller_types(config) or more
    if config.model.remat != "all":
        return (
            f"give --model.remat=all (now {config.model.remat}), which recomputes layers instead of "
            "keeping their activations"
        )
    tokens, longest = config.train.tokens_per_micro_batch, config.rollout.max_response_length
    if tokens >= 2 * longest:
        return (
            f"lower --train.tokens_per_micro_batch={tokens}, to as few as {longest}, one response"
        )
    return _smaller_types(config) or (
        f"raise tensor in --mesh (now {config.mesh.tensor}), take more chips, or lower "
        f"--rollout.max_response_length={longest}"
    )


def _remedy_of_rollout(config: Config, name: str, chips: int, shards: int) -> str:
    """Fewer responses at once only take longer; a copy of the model over more chips sends more."""
    c = config.rollout
    more_chips = f"raise tensor in --mesh (now {config.mesh.tensor}), or take more chips"
    if c.tensor:
        shards = chips // c.tensor
        more_chips = (
            f"raise --rollout.tensor={c.tensor}, the chips that share a copy of the model, or give 0, the "
            "layout of training"
        )
    slots = c.slots or config.sequences_per_step
    if name == "decode" and slots >= 2 * shards:
        fewer = f"lower --rollout.slots={slots}, {slots // shards} a data shard"
        return f"{fewer}, or {more_chips}"
    if name == "decode" and c.kv_cache_dtype != "int8":
        return f"give --rollout.kv_cache_dtype=int8 (now {c.kv_cache_dtype})"
    return more_chips


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
