"""Grading divided over the processes of a run, so that many hosts grade as many times as fast as one."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import Future
from queue import SimpleQueue

from riskpo_jax import processes
from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.grader import Grader
from riskpo_jax.rewards.outcome import Kind, Outcome


def divided(grader: Grader) -> Grader:
    """`grader` for the share of this process; as it is where there is one process only."""
    return grader if processes.count() == 1 else DividedGrader(grader)


class DividedGrader:
    """Grades this process's share of what all submit, and takes the other outcomes from the others.

    Every process submits the same batches in the same order and gets the same outcomes, also where a
    deadline passes on one host only. Shares are contiguous, because a grader may know what the responses
    to one problem have in common; which process has the first share moves on from batch to batch, for the
    sake of batches with fewer rows than processes.
    """

    def __init__(self, grader: Grader):
        self._grader, self._batches = grader, 0
        self._count, self._index = processes.count(), processes.index()
        self._channel = processes.Channel("grading")
        self._submitted: SimpleQueue = SimpleQueue()
        threading.Thread(target=self._exchange_in_turn, daemon=True).start()

    def submit(
        self, responses: Sequence[str], problems: Sequence[Problem]
    ) -> Future[list[Outcome]]:
        P, N = self._count, len(responses)
        graders = [(row * P // N + self._batches) % P for row in range(N)]
        mine = [row for row, process in enumerate(graders) if process == self._index]
        share = self._grader.submit([responses[i] for i in mine], [problems[i] for i in mine])
        whole: Future[list[Outcome]] = Future()
        self._batches += 1
        self._submitted.put((share, graders, whole))
        return whole

    def close(self) -> None:
        self._submitted.put(None)
        self._grader.close()

    def _exchange_in_turn(self) -> None:
        """Ends with the first failure, and so does every batch after it: it ends the run."""
        failure: BaseException | None = None
        while submitted := self._submitted.get():
            share, graders, whole = submitted
            try:
                if failure:
                    raise failure
                sent = [(o.kind, float(o.score), o.answer) for o in share.result()]
                received = [iter(part) for part in self._channel.exchange(sent)]
                rows = [next(received[process]) for process in graders]
                whole.set_result([Outcome(Kind(kind), *rest) for kind, *rest in rows])
            except BaseException as error:  # CancelledError among them
                failure = error
                whole.set_exception(error)
