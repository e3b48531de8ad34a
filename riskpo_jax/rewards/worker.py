"""A process that grades: started by `pool.PoolGrader` as `python -m riskpo_jax.rewards.worker`.

It reads pickled frames from the parent, which it trusts, and answers in lines of JSON, because the parent
does not trust what a process may have become that has read a model's text. A reward's own prints go to
stderr, a soft limit interrupts Python code, and rlimits bound memory and forbid writing files.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import resource
import signal
import struct
import sys
from collections.abc import Iterator
from typing import Any, BinaryIO

from riskpo_jax.errors import UserError
from riskpo_jax.rewards.functions import get_reward
from riskpo_jax.rewards.guard import grade_one
from riskpo_jax.rewards.outcome import Kind, Outcome, Reward

MAX_ANSWER_CHARS = 4096  # of a reply; a reward may call a whole response the answer
_LENGTH = struct.Struct("!Q")
_ALARM_AGAIN_S = 0.05  # code that swallows the first alarm gets another
_PR_SET_PDEATHSIG = 1


class SoftTimeout(BaseException):
    """Not an Exception, so that a reward's `except Exception` lets it pass."""


def frame(message: Any) -> bytes:
    """A message as the worker reads it: eight bytes of length, then a pickle."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    return _LENGTH.pack(len(body)) + body


def frames(stream: BinaryIO) -> Iterator[Any]:
    """The messages of a stream until it ends, whole frames only."""
    while len(head := stream.read(_LENGTH.size)) == _LENGTH.size:
        body = stream.read(_LENGTH.unpack(head)[0])
        yield pickle.loads(body)


def main() -> None:
    parent = int(sys.argv[1])
    _die_with(parent)
    requests, replies = _private_pipes()
    messages = frames(requests)
    start = next(messages, None)
    if start is None:
        return
    try:
        reward = get_reward(start["path"])
        if warm_up := getattr(reward, "warm_up", None):
            warm_up()
    except UserError as error:
        _reply(replies, {"refused": str(error)})
        return
    options, soft_timeout_s = start["options"], start["soft_timeout_s"]
    with _alarms():
        _limit(start["memory_mb"])
        _reply(replies, {"ready": True})
        for chunk in messages:
            for index, request in chunk:
                _reply(replies, {"index": index} | _grade(reward, options, request, soft_timeout_s))


def _grade(reward: Reward, options: dict, request: bytes, soft_timeout_s: float) -> dict[str, Any]:
    """The reply to one request, a pickled (response, problem)."""
    try:
        with _soft_limit(soft_timeout_s):
            response, problem = pickle.loads(request)
            outcome = grade_one(lambda r, p: reward(r, p, **options), response, problem)
    except SoftTimeout:
        outcome = Outcome(Kind.TIMEOUT, 0.0)
    except UserError as error:
        return {"refused": str(error)}
    except BaseException as error:  # noqa: BLE001 - SystemExit among them; the worker is to go on
        print(f"the reward ended with {error!r:.200}", file=sys.stderr)
        outcome = Outcome(Kind.ERROR, 0.0)
    return {
        "kind": str(outcome.kind),
        "score": float(outcome.score),
        "answer": outcome.answer[:MAX_ANSWER_CHARS],
    }


def _private_pipes() -> tuple[BinaryIO, int]:
    """Moves the parent's pipes where a reward does not look: 0 reads nothing, 1 prints to stderr."""
    requests, replies = os.dup(0), os.dup(1)
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    return os.fdopen(requests, "rb"), replies


def _reply(replies: int, message: dict[str, Any]) -> None:
    """One line, written in full; a closed pipe ends the worker."""
    data = json.dumps(message).encode("ascii") + b"\n"
    while data:
        data = data[os.write(replies, data) :]


def _die_with(parent: int) -> None:
    """Asks Linux to kill this process when the parent is gone, however that ends and whatever runs."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        sys.exit(1)


def _limit(memory_mb: int) -> None:
    """Bounds what the process may still take, measured after its imports."""
    sys.dont_write_bytecode = True
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    with contextlib.suppress(FileNotFoundError):  # /proc is Linux's
        with open("/proc/self/statm") as statm:
            size = int(statm.read().split()[0]) * resource.getpagesize()
        limit = size + memory_mb * 2**20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


@contextlib.contextmanager
def _alarms() -> Iterator[None]:
    def interrupt(signum: int, stack: Any) -> None:
        raise SoftTimeout

    old = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, old)


@contextlib.contextmanager
def _soft_limit(seconds: float) -> Iterator[None]:
    """Raises SoftTimeout in the block, and again until it leaves the block."""
    signal.setitimer(signal.ITIMER_REAL, seconds, _ALARM_AGAIN_S)
    try:
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except SoftTimeout:  # it may have come in place of the line above
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise


if __name__ == "__main__":
    main()
