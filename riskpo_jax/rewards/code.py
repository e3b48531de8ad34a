"""The reward of a program: the tests of its problem, run by worker processes in sandboxes."""

from __future__ import annotations

import contextlib
import os
import queue
import selectors
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from absl import logging

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards import wire
from riskpo_jax.rewards.code_worker import worker_command
from riskpo_jax.rewards.outcome import NO_ANSWER, Kind, Outcome
from riskpo_jax.rewards.program import last_block
from riskpo_jax.rewards.runtime import find_runtime
from riskpo_jax.rewards.sandbox import Limits, find_bubblewrap
from riskpo_jax.rewards.suite import Suite, suite_of

GRACE_S = 15.0  # beyond the program's time, for the start of its sandbox on a busy machine
_WARNINGS = 20  # of a run; the outcome kinds count them all
_TRIAL = Suite(names=("add",), tests="assert add(2, 3) == 5")
_REMEDY = (
    "bubblewrap needs user namespaces: see 'Where it runs' in docs/rewards_code.md, or run what the "
    "model writes without a sandbox, at your own risk, with --reward.unsafe_code_without_sandbox"
)


A = TypeVar("A")
B = TypeVar("B")


@dataclass(frozen=True)
class Verdict:
    """An outcome, and in a word why it is not correct: time, memory, AssertionError, syntax, ..."""

    outcome: Outcome
    reason: str = ""


class CodeGrader:
    """Grades programs in responses; see `riskpo_jax.rewards.grader.Grader`.

    Args:
      score: "all" scores 1 if all tests pass and else 0; "fraction" the fraction of tests passed. Only
        a program that passes all is correct either way.
      workers: programs that run at the same time.
      timeout_s: seconds for all tests of one program; for one pair of input and output.
      memory_mb: MiB of one program with all its processes.
      unsafe: run programs without a sandbox, if with limits.

    Raises:
      UserError: bubblewrap is missing or does not work here.
    """

    def __init__(
        self, *, score: str, workers: int, timeout_s: float, memory_mb: int, unsafe: bool = False
    ):
        self._fraction = score == "fraction"
        limits = Limits(seconds=timeout_s, memory_mb=memory_mb)
        bubblewrap = None if unsafe else find_bubblewrap()
        if unsafe:
            logging.warning(
                "DANGER: programs that the model writes run WITHOUT A SANDBOX, with access to this "
                "machine's files and network (--reward.unsafe_code_without_sandbox)"
            )
        self._runtime = find_runtime(anyone=os.getuid() == 0)
        command = worker_command(bubblewrap, self._runtime, limits)
        self._workers: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for _ in range(workers):
            self._workers.put(_Worker(command))
        self._count = workers
        self._threads = ThreadPoolExecutor(workers, "code")
        self._timeout_s = timeout_s
        try:
            self._try_out()
        except UserError:
            self.close()
            raise

    def _try_out(self) -> None:
        text = "def add(a, b):\n    return a + b\n"
        verdict = self._grade(text, True, _TRIAL)
        if not verdict.outcome.correct:
            reason = " ".join(verdict.reason.split())
            raise UserError(f"reward code: a first program did not run ({reason}): {_REMEDY}")

    def submit(
        self, responses: Sequence[str], problems: Sequence[Problem]
    ) -> Future[list[Outcome]]:
        """Equal programs for one problem are run once."""
        return _gathered(
            self._jobs(responses, problems), lambda verdicts: [v.outcome for v in verdicts]
        )

    def explain(self, responses: Sequence[str], problems: Sequence[Problem]) -> list[Verdict]:
        """As `submit`, with reasons, and waits."""
        return [job.result() for job in self._jobs(responses, problems)]

    def _jobs(self, responses: Sequence[str], problems: Sequence[Problem]) -> list[Future[Verdict]]:
        jobs: dict[tuple, Future[Verdict]] = {}
        in_order = []
        for response, problem in zip(responses, problems, strict=True):
            block = last_block(response)
            text, fenced = (response, False) if block is None else (block, True)
            key = (text, fenced, problem.dataset, problem.id)
            if key not in jobs:
                jobs[key] = self._threads.submit(self._grade_problem, text, fenced, problem)
            in_order.append(jobs[key])
        return in_order

    def _grade_problem(self, text: str, fenced: bool, problem: Problem) -> Verdict:
        if not text.strip():
            return Verdict(NO_ANSWER)
        try:
            suite = suite_of(problem)
        except ValueError as error:
            return self._failed(problem, Verdict(Outcome(Kind.ERROR, 0.0), str(error)))
        verdict = self._grade(text, fenced, suite)
        if verdict.outcome.kind in (Kind.ERROR, Kind.TIMEOUT):
            self._failed(problem, verdict)
        return verdict

    def _failed(self, problem: Problem, verdict: Verdict) -> Verdict:
        logging.log_first_n(
            logging.WARNING,
            "reward code, problem %s of %s: %s: %s",
            _WARNINGS,
            *(problem.id, problem.dataset, verdict.outcome.kind, verdict.reason),
        )
        return verdict

    def _grade(self, text: str, fenced: bool, suite: Suite) -> Verdict:
        job = {"text": text, "fenced": fenced, "suite": asdict(suite), "fraction": self._fraction}
        seconds = self._timeout_s * max(1, len(suite.pairs)) + GRACE_S
        worker = self._workers.get()
        try:
            result = worker.ask(job, seconds)
        except TimeoutError:
            return Verdict(Outcome(Kind.TIMEOUT, 0.0), "the tests hang")
        except (OSError, wire.WireError) as error:
            return Verdict(Outcome(Kind.ERROR, 0.0), f"the worker process: {error}")
        finally:
            self._workers.put(worker)
        outcome = Outcome(Kind(result["kind"]), float(result["score"]), result["answer"])
        return Verdict(outcome, result["reason"])

    def close(self) -> None:
        """Ends what still runs. Futures that are not done get cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        for _ in range(self._count):
            self._workers.get().close()
        self._threads.shutdown()
        self._runtime.close()


def _gathered(parts: list[Future[A]], finish: Callable[[list[A]], B]) -> Future[B]:
    """One future of all results, in order, passed through `finish`."""
    whole: Future[B] = Future()
    lock = threading.Lock()
    waiting = set(parts)

    def settle() -> None:
        try:
            whole.set_result(finish([part.result() for part in parts]))
        except BaseException as error:  # CancelledError among them
            whole.set_exception(error)

    def done(part: Future[A]) -> None:
        with lock:
            waiting.remove(part)
            last = not waiting
        if last:
            settle()

    if not parts:
        settle()
    for part in set(parts):
        part.add_done_callback(done)
    return whole


class _Worker:
    """A worker process, started when it is first needed and again after it had to be killed."""

    def __init__(self, command: list[str]):
        self._command = command
        self._process: subprocess.Popen | None = None

    def ask(self, job: Any, seconds: float) -> Any:
        """Raises TimeoutError, OSError or WireError, each of which costs the process."""
        if self._process is None:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env={},
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        try:
            return self._exchange(wire.pack(job), time.monotonic() + seconds)
        except BaseException:
            self.close()
            raise

    def _exchange(self, message: bytes, deadline: float) -> Any:
        pipes = self._process
        with contextlib.closing(selectors.DefaultSelector()) as selector:
            selector.register(pipes.stdout, selectors.EVENT_READ)
            view = memoryview(message)
            while view:  # the worker reads a job at once
                view = view[pipes.stdin.write(view) :]

            def read(length: int) -> bytes:
                content = b""
                while len(content) < length:
                    if not selector.select(max(0.0, deadline - time.monotonic())):
                        raise TimeoutError
                    part = pipes.stdout.read(length - len(content))
                    if not part:
                        raise BrokenPipeError("it ended")
                    content += part
                return content

            return wire.unpack(read(int.from_bytes(read(4), "big")))

    def close(self) -> None:
        """Its sandbox dies with it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()
