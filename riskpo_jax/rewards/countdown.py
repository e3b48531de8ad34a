r"""The reward of Countdown: 1 for an expression that uses each number once and hits the target.

On an expression the verdict is that of reasoning-gym's scorer (its score 1.0), except where that
one is lax: it takes any Python syntax and compares with a relative tolerance of 1e-5, so powers,
`//`, repeated signs (3--7) and near misses pass there and not here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards import expression
from riskpo_jax.rewards.extraction import last_boxed, last_line, last_tagged
from riskpo_jax.rewards.outcome import NO_ANSWER, Kind, Outcome, verdict

_LATEX = {r"\times": "*", r"\cdot": "*", r"\div": "/", r"\left": "", r"\right": "", "$": ""}
_CLAIM = re.compile(r"=\s*([0-9]{1,12})\s*$", re.ASCII)
_PLACES = (last_tagged, last_boxed, last_line)


def countdown_reward(response: str, problem: Problem) -> Outcome:
    r"""Grade an expression for the numbers `problem.metadata["numbers"]` and the target.

    The numbers are a text such as "3 7 25", the target is `problem.answer`, such as "46".

    The answer is the content of the last <answer>...</answer>, else of the last \boxed{...}, else
    the last line with text. It may end with "= 46", which must then be the target. What does not
    parse as an expression is no answer; one that divides by zero is wrong. What is wrong scores 0.
    """
    return _graded(response, problem, score_of_a_miss=lambda value, target: 0.0)


def distance_reward(response: str, problem: Problem) -> Outcome:
    """As `countdown_reward`, but a wrong expression that uses each number once scores `nearness`."""
    return _graded(response, problem, score_of_a_miss=nearness)


def nearness(value: Fraction, target: int) -> float:
    """1/2 / (1 + |value - target|): below 1/2, 1/4 at a distance of 1, and never up again.

    The quotient is exact and rounded once, because a value may be larger than any float.
    """
    return float(Fraction(1, 2) / (1 + abs(value - target)))


def _graded(
    response: str, problem: Problem, score_of_a_miss: Callable[[Fraction, int], float]
) -> Outcome:
    text = next((found for find in _PLACES if (found := find(response)) is not None), "")
    for latex, plain in _LATEX.items():
        text = text.replace(latex, plain)
    claim = _CLAIM.search(text)
    try:
        parsed = expression.parse(text[: claim.start()] if claim else text)
    except expression.UndefinedError:
        return verdict(False)
    except expression.ParseError:
        return NO_ANSWER
    numbers = [int(word) for word in problem.metadata["numbers"].split()]
    target = int(problem.answer)
    if claim and int(claim[1]) != target:
        return verdict(False, f"{parsed.text}={claim[1]}")
    if sorted(parsed.integers) != sorted(numbers):
        return verdict(False, parsed.text)
    if parsed.value == target:
        return verdict(True, parsed.text)
    return Outcome(Kind.WRONG, score_of_a_miss(parsed.value, target), parsed.text)
