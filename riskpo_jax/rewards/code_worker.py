"""The process beside the trainer that grades programs: reads hostile text, runs trusted tests.

The trainer itself parses nothing that a model wrote and holds no sandbox. This process has an empty
environment, a memory limit, no rights of root (where root started it), and dies with its input.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from riskpo_jax.rewards import program as programs
from riskpo_jax.rewards import sandbox, wire
from riskpo_jax.rewards.code_tests import Tally, run_asserts, run_pairs
from riskpo_jax.rewards.outcome import Kind
from riskpo_jax.rewards.remote import CannotSend
from riskpo_jax.rewards.runtime import Runtime
from riskpo_jax.rewards.sandbox_session import ProgramEnded, SandboxFailed, Session
from riskpo_jax.rewards.suite import Suite, test_globals
from riskpo_jax.rewards.watchdog import Watchdog

OWN_MEMORY_MB = 1024  # beyond that of a program
_SUBREAPER = 36  # prctl


def main(setup: str) -> None:
    """Answer jobs on stdin with results on stdout until the end of stdin."""
    settings = json.loads(setup)
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1):  # what a test prints is no reply
        os.dup2(null, descriptor)
    sandbox.guest_source(), test_globals(Suite(imported=True))  # read while we may
    limits = sandbox.Limits(**settings["limits"])
    _restrain(limits)
    bubblewrap = settings["bubblewrap"] and sandbox.Bubblewrap(
        settings["bubblewrap"]["path"], tuple(settings["bubblewrap"]["version"])
    )
    runtime = Runtime(Path(settings["root"]), settings["executable"], tuple(settings["parts"]))
    start = partial(Session, bubblewrap, runtime, limits, Watchdog())
    with os.fdopen(requests, "rb") as jobs, os.fdopen(replies, "wb") as results:
        while header := jobs.read(4):
            job = wire.unpack(jobs.read(int.from_bytes(header, "big")))
            results.write(wire.pack(grade(job, start, limits.wall_seconds)))
            results.flush()


def worker_command(
    bubblewrap: sandbox.Bubblewrap | None, runtime: Runtime, limits: sandbox.Limits
) -> list[str]:
    """Starts `main` in the runtime's interpreter, which later imports must be readable to."""
    package = str(Path(__file__).resolve().parents[2])
    settings = {
        "bubblewrap": bubblewrap and asdict(bubblewrap),
        "limits": asdict(limits),
        "root": str(runtime.root),
        "executable": runtime.executable,
        "parts": runtime.parts,
    }
    start = (
        "import sys; sys.path.insert(0, sys.argv[1]); "
        "from riskpo_jax.rewards.code_worker import main; sys.path.pop(0); main(sys.argv[2])"
    )
    options = ["-I", "-S", "-B", "-X", "utf8", "-c", start]
    return [runtime.python, *options, package, json.dumps(settings)]


def grade(job: dict[str, Any], start: Callable[[], Session], seconds: float) -> dict[str, Any]:
    """{kind, score, answer, reason} for {texts, fenced, suite, fraction}.

    A program that ends badly or exceeds a limit is wrong; a sandbox that fails, or a test that is no
    call, is an error of the grading.
    """
    suite = Suite(**job["suite"])
    text = programs.last_defining(job["texts"], list(suite.names))
    program = programs.choose(text, job["fenced"], suite.prompt, list(suite.names))
    if program is None:
        return _result(Kind.NO_ANSWER)
    answer = programs.fingerprint(program)
    if programs.parse(program) is None:
        return _result(Kind.WRONG, answer=answer, reason="syntax")
    try:
        tally = _tally_twice(suite, program, start, seconds, stop_early=not job["fraction"])
    except ProgramEnded as ended:  # the deadline came between two steps
        return _result(Kind.WRONG, answer=answer, reason=str(ended))
    except (CannotSend, SandboxFailed) as error:
        return _result(Kind.ERROR, answer=answer, reason=f"{type(error).__name__}: {error}")
    if tally.correct:
        return _result(Kind.CORRECT, 1.0, answer)
    return _result(Kind.WRONG, tally.fraction * job["fraction"], answer, tally.reason)


def _result(kind: Kind, score: float = 0.0, answer: str = "", reason: str = "") -> dict[str, Any]:
    return {"kind": kind, "score": score, "answer": answer, "reason": reason}


def _tally_twice(suite: Suite, *args: Any, **kwargs: Any) -> Tally:
    """A sandbox that does not come up gets a second chance."""
    with contextlib.suppress(SandboxFailed):
        return _tally(suite, *args, **kwargs)
    time.sleep(0.2)
    return _tally(suite, *args, **kwargs)


def _tally(
    suite: Suite, program: str, start: Callable[[], Session], seconds: float, stop_early: bool
) -> Tally:
    if suite.pairs:
        return run_pairs(suite, program, start, stop_early)
    with start() as session, _deadline(seconds):
        return run_asserts(suite, program, session, stop_early)


@contextlib.contextmanager
def _deadline(seconds: float) -> Iterator[None]:
    """Ends tests that go on for ever over a value that a program returned: range(f(x)), say."""

    def end(*_: object) -> None:
        raise ProgramEnded("time")

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds + 0.5, 0.5)  # again, if a test caught it
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)  # one that is late must not end what follows
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _restrain(limits: sandbox.Limits) -> None:
    """Orphans of a program without a sandbox become ours, and so can be found and killed."""
    ctypes.CDLL(None).prctl(_SUBREAPER, 1, 0, 0, 0)
    memory = (limits.memory_mb + OWN_MEMORY_MB) << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory, resource.getrlimit(resource.RLIMIT_AS)[1]))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with contextlib.suppress(OSError):  # should memory run out, we go before the trainer
        Path("/proc/self/oom_score_adj").write_text("500")
    if os.getuid() == 0:
        os.setgroups([])
        os.setresgid(*[sandbox.NOBODY] * 3)
        os.setresuid(*[sandbox.NOBODY] * 3)
        os.umask(0o077)
    sys.setrecursionlimit(10_000)  # of tests; wire has its own limit
