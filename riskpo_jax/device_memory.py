"""Out of memory, told in one line: what was wanted, what there is, and what to lower."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator

import jax

from riskpo_jax.errors import UserError

# What bounds the memory of each part of a step, the most effective first.
ROLLOUT_REMEDY = (
    "lower --rollout.slots or --rollout.max_response_length, or give --rollout.kv_cache_dtype=int8"
)
UPDATE_REMEDY = "lower --train.tokens_per_micro_batch, or give --model.remat=all"

_EXHAUSTED = "RESOURCE_EXHAUSTED"


@contextlib.contextmanager
def explained(doing: str, remedy: str) -> Iterator[None]:
    """Turns a device that runs out of memory inside into a UserError: "`doing` ...: `remedy`".

    Devices run behind the host: wait for the results inside (`jax.block_until_ready`).

    Raises:
      UserError: for RESOURCE_EXHAUSTED, of compiling or of running; any other error passes.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if _EXHAUSTED not in str(error):
            raise
        message = (
            f"{doing} does not fit into memory: {_wanted(str(error))}; {_capacity()}: {remedy}"
        )
        raise UserError(message) from None


def check_fits(compiled: jax.stages.Compiled, doing: str, remedy: str) -> None:
    """Compares what a compiled program will need with what a device has, before it runs.

    On a CPU this is the only warning that there is: Linux promises memory that it does not have, and
    kills the process that uses it.

    Raises:
      UserError: arguments, results and temporaries exceed the memory of a device.
    """
    need, limit = bytes_needed(compiled), device_bytes()
    if need and limit and need > limit:
        raise UserError(
            f"{doing} does not fit into memory: it needs {gib(need)} a device; {_capacity()}: {remedy}"
        )


def bytes_needed(compiled: jax.stages.Compiled) -> int:
    """Arguments, results and temporaries of a program on one device; donated arguments count once.

    0 where the compiler does not say.
    """
    stats = compiled.memory_analysis()
    if stats is None:
        return 0
    return (
        stats.argument_size_in_bytes
        + stats.output_size_in_bytes
        - stats.alias_size_in_bytes
        + stats.temp_size_in_bytes
    )


def device_bytes() -> int:
    """The memory that programs may use on one device; on a CPU the machine's."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def gib(count: int) -> str:
    return f"{count / 2**30:.2f} GiB"


def _capacity() -> str:
    stats = jax.local_devices()[0].memory_stats() or {}
    used = f", {gib(stats['bytes_in_use'])} of it in use" if "bytes_in_use" in stats else ""
    return f"{jax.devices()[0].device_kind} has {gib(device_bytes())}{used}"


def _wanted(message: str) -> str:
    """XLA's first sentence, in GiB where it counts bytes."""
    first = message.partition(f"{_EXHAUSTED}:")[2].strip().split("\n")[0][:200].rstrip(" .")
    return re.sub(r"(\d{6,}) ?(?:bytes|B)\b", lambda match: gib(int(match[1])), first)
