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
    "lower --rollout.slots or --rollout.max_response_length, give --rollout.kv_cache_dtype=int8, or divide "
    "the parameters by --rollout.tensor"
)
STEP_REMEDY = "lower --rollout.slots or --train.tokens_per_micro_batch, or give --model.remat=all"
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
