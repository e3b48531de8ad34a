"""Rewards that misbehave, for tests/rewards/test_pool.py: the response says how."""

import collections
import itertools
import os
import signal
import sys
import tempfile
import time

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.outcome import Outcome, verdict


def hang_in_c():
    collections.deque(itertools.repeat(None), maxlen=0)  # looks at no signal


def count_high():
    pow(9, 9**9)


def hang_in_python():
    while True:
        pass


def sleep():
    time.sleep(1000)


def ignore_alarms():
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    hang_in_python()


def swallow_alarms():
    while True:
        try:
            hang_in_python()
        except BaseException:
            pass


def swell():
    return bytearray(100 * 2**30)


def exit_at_once():
    os._exit(3)


def exit_politely():
    sys.exit(0)


def segfault():
    os.kill(os.getpid(), signal.SIGSEGV)


def close_everything():
    os.closerange(0, 256)


def print_megabytes():
    print("x" * 2**22)
    print('{"index": 0, "kind": "correct", "score": 1.0, "answer": ""}', flush=True)
    os.write(1, b"y" * 2**20)


def write_a_file():
    with tempfile.TemporaryFile() as file:
        file.write(b"x")


def fork_and_hang():
    if os.fork() == 0:
        hang_in_python()
    hang_in_python()


def recurse():
    recurse()


def reward(response: str, problem: Problem, *, credit: float = 1.0) -> Outcome:
    """Obeys the response, then grades it as equal to the problem's answer or not."""
    if response in globals():
        globals()[response]()
    outcome = verdict(response == problem.answer, response)
    return Outcome(outcome.kind, outcome.score * credit, response)


def bare_number(response: str, problem: Problem) -> float:
    return 1.0


def nan(response: str, problem: Problem) -> Outcome:
    return Outcome(verdict(True).kind, float("nan"), response)


def modules(response: str, problem: Problem) -> Outcome:
    """The names among "a b c" that are imported here."""
    return verdict(True, " ".join(n for n in response.split() if n in sys.modules))


def environment(response: str, problem: Problem) -> Outcome:
    return verdict(True, os.environ.get(response, ""))


def process(response: str, problem: Problem) -> Outcome:
    return verdict(True, str(os.getpid()))


def warm(response: str, problem: Problem) -> Outcome:
    """Whether the worker was warmed up."""
    return verdict(warm.is_warm)


warm.is_warm = False
warm.warm_up = lambda: setattr(warm, "is_warm", True)
