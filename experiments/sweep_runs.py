"""Runs of a sweep as processes of their own, some at a time; one that fails does not stop the others."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments import flags as experiment_flags
from experiments.sweep_grid import Cell
from riskpo_jax.errors import UserError
from riskpo_jax.files import replacing
from riskpo_jax.reporting.files import read_jsonl
from riskpo_jax.reporting.run_dir import RunDir

RUN = (sys.executable, "-m", "experiments.run")
_POLL_S = 0.1


@dataclass(frozen=True)
class Slot:
    """The part of the machine that one run at a time may use. cores: none where they cannot be set."""

    cores: Sequence[int]
    gpus: str | None


def is_finished(cell: Cell) -> bool:
    """Whether the run made its last step, was evaluated there (if at all), and left its model."""
    try:
        steps, evals = (_last_step(cell.path / name) for name in ("metrics.jsonl", "eval.jsonl"))
    except UserError:  # a line that is no JSON
        return False
    last = cell.config.train.steps
    return steps == last and evals in (None, last) and RunDir(cell.path).model.exists()


def run_all(cells: Sequence[Cell], slots: Sequence[Slot], lock: int) -> Iterator[Cell]:
    """Runs the cells, one a slot at a time, and yields each as it ends. Those that run end with the caller.

    lock: of `only_one`; the runs hold it, too, so that it outlives a sweep that was killed.
    """
    waiting, active = list(reversed(cells)), {}
    with contextlib.ExitStack() as everything:
        while waiting or active:
            for n, slot in enumerate(slots):
                if waiting and n not in active:
                    cell, held = waiting.pop(), contextlib.ExitStack()
                    everything.push(held)
                    process = held.enter_context(_started(cell, slot, lock))
                    active[n] = cell, process, held
            time.sleep(_POLL_S)
            for n, (cell, process, held) in list(active.items()):
                if process.poll() is not None:
                    held.close()
                    del active[n]
                    yield cell


@contextlib.contextmanager
def only_one(runs: Path) -> Iterator[int]:
    """Yields a lock on the folder of the runs, so that no run is made twice at the same time.

    Raises:
      UserError: another sweep, or what a killed one left running, holds it.
    """
    with open(runs / ".lock", "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(
                f"another sweep runs in {runs}: wait until it has ended, or give another --runs"
            ) from None
        yield file.fileno()


def make_slots(jobs: int, gpus_per_run: int) -> list[Slot]:
    """Divides the cores and, if `gpus_per_run` is not 0, the GPUs that this process sees.

    Raises:
      UserError: fewer GPUs are visible than the runs need.
    """
    needed = jobs * gpus_per_run
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", ",".join(map(str, range(needed)))).split(",")
    if len(visible) < needed:
        raise UserError(
            f"--jobs={jobs} with --gpus_per_run={gpus_per_run} needs {needed} GPUs, but "
            f"CUDA_VISIBLE_DEVICES={','.join(visible)}: lower one"
        )
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    slots = []
    for n in range(jobs):
        own = cores[n * len(cores) // jobs : (n + 1) * len(cores) // jobs]
        if cores and jobs > len(cores):
            own = [cores[n % len(cores)]]
        gpus = ",".join(visible[n * gpus_per_run : (n + 1) * gpus_per_run]) or None
        slots.append(Slot(tuple(own), gpus))
    return slots


@contextlib.contextmanager
def _started(cell: Cell, slot: Slot, lock: int) -> Iterator[subprocess.Popen]:
    """The run's process, ended on leaving; its seconds are added to what earlier attempts took."""
    cell.path.parent.mkdir(parents=True, exist_ok=True)
    flagfile = cell.beside(".flags")
    with replacing(flagfile) as aside:
        aside.write_text(experiment_flags.as_flagfile(cell.config))
    environment = dict(os.environ)
    if slot.gpus is not None:
        environment["CUDA_VISIBLE_DEVICES"] = slot.gpus
    began = time.monotonic()
    with open(cell.beside(".log"), "a") as log:
        process = subprocess.Popen(
            [*RUN, f"--flagfile={flagfile}", f"--workdir={cell.path}"],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            pass_fds=(lock,),
            preexec_fn=(lambda: os.sched_setaffinity(0, slot.cores)) if slot.cores else None,
        )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        seconds = seconds_spent(cell) + time.monotonic() - began
        with replacing(cell.beside(".json")) as aside:
            aside.write_text(json.dumps({"seconds": round(seconds, 1)}) + "\n")


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


def _last_step(file: Path) -> int | None:
    rows = read_jsonl(file) if file.exists() else []
    return rows[-1]["step"] if rows else None
