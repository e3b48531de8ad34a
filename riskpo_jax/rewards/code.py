"""The reward of a program: the tests of its problem, run by worker processes in sandboxes."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import lru_cache, partial

from absl import logging

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards import wire
from riskpo_jax.rewards.code_pool import Pool
from riskpo_jax.rewards.code_worker import worker_command
from riskpo_jax.rewards.futures import gathered
from riskpo_jax.rewards.outcome import NO_ANSWER, Kind, Outcome
from riskpo_jax.rewards.program import last_blocks
from riskpo_jax.rewards.runtime import find_runtime
from riskpo_jax.rewards.sandbox import Bubblewrap, Limits, find_bubblewrap
from riskpo_jax.rewards.suite import Suite, suite_of

GRACE_S = 15.0  # beyond the program's time, for the start of its sandbox on a busy machine
_WARNINGS = 20  # of a run; the outcome kinds count them all
_TRIAL = Suite(names=("add",), tests="assert add(2, 3) == 5")
_REMEDY = (
    "bubblewrap needs user namespaces: see 'Where it runs' in docs/rewards_code.md, or run what the "
    "model writes without a sandbox, at your own risk, with --reward.unsafe_code_without_sandbox"
)


@dataclass(frozen=True)
class Verdict:
    """An outcome, in a word why it is not correct (time, memory, AssertionError, syntax, ...), and how
    long it took."""

    outcome: Outcome
    reason: str = ""
    seconds: float = 0.0


class CodeGrader:
    """Grades programs in responses; see `riskpo_jax.rewards.grader.Grader`.

    Args:
      score: "all" scores 1 if all tests pass and else 0; "fraction" the fraction of tests passed. Only
        a program that passes all is correct either way.
      workers: programs that run at the same time.
      timeout_s: seconds of computing for all tests of one program, or for one pair of input and output;
        twice as many may pass.
      memory_mb: MiB of one program with all its processes.
      unsafe: where bubblewrap is missing or does not work, run programs without it, if with limits.

    Raises:
      UserError: bubblewrap is missing or does not work here, and not `unsafe`.
    """

    def __init__(
        self, *, score: str, workers: int, timeout_s: float, memory_mb: int, unsafe: bool = False
    ):
        self._fraction = score == "fraction"
        self._limits = Limits(seconds=timeout_s, memory_mb=memory_mb)
        self._runtime = find_runtime(anyone=os.getuid() == 0)
        self._pool = self._started(workers, unsafe)
        self._threads = ThreadPoolExecutor(workers, "code")

    def _started(self, workers: int, unsafe: bool) -> Pool:
        try:
            return self._tried_out(find_bubblewrap(), workers)
        except UserError as error:
            if not unsafe:
                raise
            logging.warning(
                "DANGER: programs that the model writes run WITHOUT A SANDBOX, with access to this "
                "machine's files and network (--reward.unsafe_code_without_sandbox): %s",
                error,
            )
            return self._tried_out(None, workers)

    def _tried_out(self, bubblewrap: Bubblewrap | None, workers: int) -> Pool:
        """Workers of which one has run a first program. Raises UserError."""
        pool = Pool(worker_command(bubblewrap, self._runtime, self._limits), workers)
        verdict = self._ask(pool, ["def add(a, b):\n    return a + b\n"], True, _TRIAL)
        if not verdict.outcome.correct:
            pool.close()
            reason = " ".join(verdict.reason.split())
            raise UserError(f"reward code: a first program did not run ({reason}): {_REMEDY}")
        return pool

    def submit(
        self, responses: Sequence[str], problems: Sequence[Problem]
    ) -> Future[list[Outcome]]:
        """Equal programs for one problem are run once."""
        return gathered(
            self._jobs(responses, problems), lambda verdicts: [v.outcome for v in verdicts]
        )

    def explain(self, responses: Sequence[str], problems: Sequence[Problem]) -> list[Verdict]:
        """As `submit`, with reasons, and waits."""
        return [job.result() for job in self._jobs(responses, problems)]

    def _jobs(self, responses: Sequence[str], problems: Sequence[Problem]) -> list[Future[Verdict]]:
        suites: dict[tuple, tuple[Problem, Callable[[], Suite]]] = {}
        jobs: dict[tuple, Future[Verdict]] = {}
        in_order = []
        for response, problem in zip(responses, problems, strict=True):
            blocks = last_blocks(response)
            texts, fenced = (blocks, True) if blocks else ([response], False)
            name = (problem.dataset, problem.id)
            first, suite = suites.setdefault(name, (problem, lru_cache(partial(suite_of, problem))))
            if problem is not first and problem.metadata != first.metadata:  # names may repeat
                name, suite = (id(problem),), partial(suite_of, problem)
            key = (tuple(texts), fenced, name)
            if key not in jobs:
                jobs[key] = self._threads.submit(self._grade, texts, fenced, problem, suite)
            in_order.append(jobs[key])
        return in_order

    def _grade(
        self, texts: list[str], fenced: bool, problem: Problem, suite: Callable[[], Suite]
    ) -> Verdict:
        if not any(text.strip() for text in texts):
            return Verdict(NO_ANSWER)
        try:
            verdict = self._ask(self._pool, texts, fenced, suite())
        except ValueError as error:
            verdict = Verdict(Outcome(Kind.ERROR, 0.0), str(error))
        if verdict.outcome.kind in (Kind.ERROR, Kind.TIMEOUT):
            logging.log_first_n(
                logging.WARNING,
                "reward code, problem %s of %s: %s: %s",
                _WARNINGS,
                *(problem.id, problem.dataset, verdict.outcome.kind, verdict.reason),
            )
        return verdict

    def _ask(self, pool: Pool, texts: list[str], fenced: bool, suite: Suite) -> Verdict:
        job = {"texts": texts, "fenced": fenced, "suite": asdict(suite), "fraction": self._fraction}
        start = time.monotonic()
        try:
            result = pool.ask(job, self._limits.wall_seconds * max(1, len(suite.pairs)) + GRACE_S)
        except TimeoutError:
            result = {"kind": Kind.TIMEOUT, "reason": "the tests hang"}
        except (OSError, wire.WireError) as error:
            result = {"kind": Kind.ERROR, "reason": f"the worker process: {error}"}
        score, answer = result.get("score", 0.0), result.get("answer", "")
        outcome = Outcome(Kind(result["kind"]), float(score), answer)
        return Verdict(outcome, result["reason"], time.monotonic() - start)

    def close(self) -> None:
        """Ends what still runs: its outcome is an error; what waits is cancelled."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        self._pool.close()
        self._threads.shutdown()
