"""Runs of a sweep as processes of their own, some at a time; one that fails does not stop the others."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from experiments import flags as experiment_flags
from experiments.sweep_grid import Cell
from riskpo_jax.files import replacing
from riskpo_jax.reporting.files import read_jsonl
from riskpo_jax.reporting.run_dir import RunDir

RUN = (sys.executable, "-m", "experiments.run")
_POLL_S = 0.1


@dataclass(frozen=True)
class Ended:
    """How a run ended. seconds: of wall-clock time, over all attempts."""

    cell: Cell
    returncode: int
    seconds: float
    last_words: str


def is_finished(cell: Cell) -> bool:
    """Whether the run made its last step and left its model."""
    metrics = cell.path / "metrics.jsonl"
    if not RunDir(cell.path).model.exists() or not metrics.exists():
        return False
    rows = read_jsonl(metrics)
    return bool(rows) and rows[-1]["step"] >= cell.config.train.steps


def run_all(cells: Sequence[Cell], jobs: int, gpus_per_run: int) -> Iterator[Ended]:
    """Runs the cells, `jobs` at a time, and yields each as it ends. Those that run end with the caller."""
    waiting, active = list(reversed(cells)), {}
    with contextlib.ExitStack() as held:
        while waiting or active:
            for slot in range(jobs):
                if waiting and slot not in active:
                    cell = waiting.pop()
                    process = held.enter_context(_started(cell, slot, jobs, gpus_per_run))
                    active[slot] = (cell, process, time.monotonic())
            time.sleep(_POLL_S)
            for slot, (cell, process, began) in list(active.items()):
                if process.poll() is not None:
                    del active[slot]
                    yield _ended(cell, process.returncode, time.monotonic() - began)


@contextlib.contextmanager
def _started(cell: Cell, slot: int, jobs: int, gpus_per_run: int) -> Iterator[subprocess.Popen]:
    cell.path.parent.mkdir(parents=True, exist_ok=True)
    flagfile = cell.beside(".flags")
    with replacing(flagfile) as aside:
        aside.write_text(experiment_flags.as_flagfile(cell.config))
    command = [*RUN, f"--flagfile={flagfile}", f"--workdir={cell.path}"]
    environment = dict(os.environ)
    if gpus_per_run:
        devices = range(slot * gpus_per_run, (slot + 1) * gpus_per_run)
        environment["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, devices))
    cores = _share_of_cores(slot, jobs)
    with open(cell.beside(".log"), "a") as log:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            preexec_fn=(lambda: os.sched_setaffinity(0, cores)) if cores else None,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


def _share_of_cores(slot: int, jobs: int) -> list[int]:
    """The cores of one slot: runs that share all cores slow each other down. [] where it cannot be set."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    return cores[slot * len(cores) // jobs : (slot + 1) * len(cores) // jobs]


def _ended(cell: Cell, returncode: int, seconds: float) -> Ended:
    """Adds the seconds to what earlier attempts took, in `<run>.json`."""
    seconds += seconds_spent(cell)
    with replacing(cell.beside(".json")) as aside:
        aside.write_text(
            json.dumps({"returncode": returncode, "seconds": round(seconds, 1)}) + "\n"
        )
    return Ended(cell, returncode, seconds, last_words(cell))


def seconds_spent(cell: Cell) -> float:
    """Wall-clock seconds of all attempts at this run, 0 before the first ended."""
    file = cell.beside(".json")
    return json.loads(file.read_text())["seconds"] if file.exists() else 0.0


def last_words(cell: Cell) -> str:
    """The last line that the run printed, which names the error of one that failed."""
    file = cell.beside(".log")
    if not file.exists():
        return "not begun"
    lines = file.read_text(errors="replace").split("\n")
    return next((line.strip() for line in reversed(lines) if line.strip()), "nothing was printed")
