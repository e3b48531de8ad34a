"""What grades a batch of responses, beside the host's other work."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from itertools import chain
from operator import itemgetter
from typing import Protocol

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.futures import gathered
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
            self._graders[name].submit([responses[i] for i in rows], [problems[i] for i in rows])
            for name, rows in rows_of.items()
        ]

        def in_order(parts: Sequence[Sequence[Outcome]]) -> list[Outcome]:
            by_row = zip(chain(*rows_of.values()), chain(*parts), strict=True)
            return [outcome for _, outcome in sorted(by_row, key=itemgetter(0))]

        return gathered(parts, in_order)

    def close(self) -> None:
        for grader in self._graders.values():
            grader.close()
