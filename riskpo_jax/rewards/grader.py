"""What grades a batch of responses, beside the host's other work."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Protocol

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.guard import grade_one
from riskpo_jax.rewards.outcome import Outcome, Reward


class Grader(Protocol):
    """Grades responses and holds what that takes (worker processes), until `close`.

    `submit` takes N responses with the N problems that they answer (a problem stands as often as it was
    answered) and returns at once; the future's result is N outcomes in the same order. Whatever a
    response does, its outcome is one of the five kinds: the future fails only for what the user must
    mend (UserError), and hangs never. Batches may be submitted while others are being graded.
    """

    def submit(
        self, responses: Sequence[str], problems: Sequence[Problem]
    ) -> Future[list[Outcome]]: ...

    def close(self) -> None: ...


class FunctionGrader:
    """A reward function, called in this process and thread: for quick functions that need no guard."""

    def __init__(self, reward: Reward):
        self._reward = reward

    def submit(
        self, responses: Sequence[str], problems: Sequence[Problem]
    ) -> Future[list[Outcome]]:
        future: Future[list[Outcome]] = Future()
        try:
            pairs = zip(responses, problems, strict=True)
            future.set_result([grade_one(self._reward, text, problem) for text, problem in pairs])
        except UserError as error:
            future.set_exception(error)
        return future

    def close(self) -> None:
        pass


class RoutedGrader:
    """Sends every problem to the grader that its `reward` names."""

    def __init__(self, graders: Mapping[str, Grader]):
        self._graders = graders

    def submit(
        self, responses: Sequence[str], problems: Sequence[Problem]
    ) -> Future[list[Outcome]]:
        rows_of: dict[str, list[int]] = defaultdict(list)
        for row, problem in enumerate(problems):
            rows_of[problem.reward].append(row)
        parts = [
            (
                rows,
                self._graders[name].submit(
                    [responses[row] for row in rows], [problems[row] for row in rows]
                ),
            )
            for name, rows in rows_of.items()
        ]
        return _gathered(len(responses), parts)

    def close(self) -> None:
        for grader in self._graders.values():
            grader.close()


def _gathered(
    count: int, parts: Sequence[tuple[Sequence[int], Future[list[Outcome]]]]
) -> Future[list[Outcome]]:
    """The results of futures in one list, each at its rows; done when the last part is."""
    whole: Future[list[Outcome]] = Future()
    missing, lock = len(parts), threading.Lock()

    def part_done(_: Future) -> None:
        nonlocal missing
        with lock:
            missing -= 1
            if missing:
                return
        outcomes: list = [None] * count
        try:
            for rows, part in parts:
                for row, outcome in zip(rows, part.result(), strict=True):
                    outcomes[row] = outcome
            whole.set_result(outcomes)
        except BaseException as error:  # noqa: BLE001 - the future carries it to whoever waits
            whole.set_exception(error)

    for _, part in parts:
        part.add_done_callback(part_done)
    if not parts:
        whole.set_result([])
    return whole
