"""What a reward says about a response."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from riskpo_jax.data.problem import Problem


class Kind(StrEnum):
    """How the grading of one response ended.

    CORRECT and WRONG are verdicts on an answer; NO_ANSWER means that the response holds none.
    TIMEOUT and ERROR are failures of the grading, not of the model: they score 0 and are counted
    apart, so that a broken verifier cannot pass for a bad policy.
    """

    CORRECT = "correct"
    WRONG = "wrong"
    NO_ANSWER = "no_answer"
    TIMEOUT = "timeout"
    ERROR = "error"


@dataclass(frozen=True)
class Outcome:
    """The verdict, the scalar reward, and the extracted answer in normal form ("" without one).

    Two responses vote for the same answer in maj@k when their `answer` is equal.
    """

    kind: Kind
    score: float
    answer: str = ""

    @property
    def correct(self) -> bool:
        return self.kind is Kind.CORRECT


Reward = Callable[[str, Problem], Outcome]
"""response, problem -> outcome"""


def verdict(correct: bool, answer: str = "") -> Outcome:
    """A binary outcome: correct scores 1, wrong 0."""
    return Outcome(Kind.CORRECT, 1.0, answer) if correct else Outcome(Kind.WRONG, 0.0, answer)


NO_ANSWER = Outcome(Kind.NO_ANSWER, 0.0)
