"""Where the time of compiled programs goes: the profiler's operations, summed by the part of the model.

Every operation of a trace has a name in its program, and the program's HLO says from which scope of the
source the operation came. So what is measured is the programs that run, not pieces cut out of them.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
from jax.profiler import ProfileData, ProfileOptions

# A part, and the scopes that mean it; the first that is found counts.
PARTS = {
    "sampling": r"sampling",
    "optimizer": r"optimizer",
    "head": r"unembed",
    "vocabulary softmax": r"logprobs|log_softmax|take_along_axis",
    "attention projections": r"attention\.linear",
    "attention": r"/attention/|attend",
    "feed-forward": r"/mlp/",
    "norms": r"_norm",
    "activations and cache moved": r"dynamic_(update_)?(slice|index)|Decoder\)*/broadcast_in_dim",
}
COPIES = "copies and fills"  # that the compiler added, which come from no scope
OTHER = "other"

_INSTRUCTION = re.compile(
    r'^\s*(?:ROOT )?%?([\w.\-]+) = .*metadata=\{[^}]*?op_name="([^"]*)"', re.M
)


class Event(NamedTuple):
    """An operation as it was run: nanoseconds, and its names."""

    start: float
    duration: float
    module: str
    operation: str


def profile(run: Callable[[], Any]) -> dict[str, float]:
    """Seconds of each part while `run` runs, most first: "program: pass part" -> seconds.

    `run` must wait for its results, and have compiled before. Where a device runs operations side by
    side they count side by side, so that the sum may exceed the time that passed.
    """
    options = ProfileOptions()
    options.python_tracer_level = 0  # it slows the host down, and is of no use here
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder, profiler_options=options):
            run()
        (file,) = Path(folder).rglob("*.xplane.pb")
        seconds = self_seconds(lines_of(ProfileData.from_file(str(file))))
    return by_part(seconds, scopes_of_programs())


def lines_of(data: ProfileData) -> Iterable[list[Event]]:
    """The operations of compiled programs, a list a thread or stream."""
    for plane in data.planes:
        for line in plane.lines:
            yield [
                Event(event.start_ns, event.duration_ns, stats["hlo_module"], stats["hlo_op"])
                for event in line.events
                if {"hlo_op", "hlo_module"} <= (stats := dict(event.stats)).keys()
            ]


def self_seconds(lines: Iterable[list[Event]]) -> Counter[tuple[str, str]]:
    """(module, operation) -> seconds, without those of operations inside it, as a loop's body is."""
    seconds: Counter[tuple[str, str]] = Counter()
    for line in lines:
        open_events: list[tuple[float, tuple[str, str]]] = []
        for event in sorted(line, key=lambda e: (e.start, -e.duration)):
            while open_events and open_events[-1][0] <= event.start:
                open_events.pop()
            name = event.module, event.operation
            if open_events:
                seconds[open_events[-1][1]] -= event.duration / 1e9
            seconds[name] += event.duration / 1e9
            open_events.append((event.start + event.duration, name))
    return seconds


def scopes_of_programs() -> dict[tuple[str, str], str]:
    """(module, operation) -> its scope in the source, of all programs that are loaded."""
    scopes = {}
    for program in jax.devices()[0].client.live_executables():
        for module in program.hlo_modules():
            found = _INSTRUCTION.findall(module.to_string())
            scopes |= {(module.name, operation): scope for operation, scope in found}
    return scopes


def by_part(
    seconds: Mapping[tuple[str, str], float], scopes: Mapping[tuple[str, str], str]
) -> dict[str, float]:
    parts: Counter[str] = Counter()
    for (module, operation), spent in seconds.items():
        parts[part_of(module, operation, scopes.get((module, operation), ""))] += spent
    return dict(parts.most_common())


def part_of(module: str, operation: str, scope: str) -> str:
    """The program, the pass where there are two, and the part: "add: backward attention"."""
    unscoped = COPIES if re.match("copy|(wrapped_)?broadcast", operation) else OTHER
    part = next((part for part, words in PARTS.items() if re.search(words, scope)), unscoped)
    direction = ""
    if "rematted_computation" in scope:
        direction = "recomputed "
    elif "transpose(" in scope:
        direction = "backward "
    elif "jvp(" in scope:
        direction = "forward "
    program = module.removeprefix("jit_").lstrip("_")
    return f"{program}: {direction}{part}"
