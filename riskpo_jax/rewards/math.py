r"""The reward of mathematics problems.

The final answer is the content of the last \boxed{...}; nothing else in a response is read, and an answer
without a box is none (but see `final_answer="hashes"`). It is compared with the reference by structure and
by value: `math_answer`, `math_compare`, `math_numeric`; docs/rewards_math.md lists the decisions.

Grading one answer is quick, and refuses what would not be, but promises no bound on time: that is
`pool.PoolGrader`'s.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards import math_units
from riskpo_jax.rewards.extraction import last_boxed, last_hashes
from riskpo_jax.rewards.math_answer import Node, Quantity, parse, readings
from riskpo_jax.rewards.math_compare import same
from riskpo_jax.rewards.math_quantities import EXACT, Tolerance
from riskpo_jax.rewards.math_read import TooLarge
from riskpo_jax.rewards.math_text import braces_too_deep, clean, normalise
from riskpo_jax.rewards.outcome import NO_ANSWER, Kind, Outcome, verdict

MAX_ANSWER_LENGTH = 500  # characters, or three times the reference's; longer ones are wrong
MAX_DEPTH = 24  # of braces in an answer
RELATIVE_TOLERANCE = {"minerva": 0.01}  # data sets of measured values
_CHOICE = re.compile(r"\\text\{\s*\(([A-Z])\)\s*\}\s*:?\s*(?=\S)|\(([A-E])\)\s+(?=\S)")
_OTHER_CHOICE = re.compile(r"(?<![A-Za-z])\([A-Z]\)|^\s*(?:\\text\{)?\s*[A-Z][\s}.]*$")
_GSM8K = re.compile(r"####\s*(\S.*?)\s*$", re.DOTALL)
_FIRST_PAIRS = [
    (r"\frac{\sqrt{3}}{2}", r"\frac{3}{2\sqrt{3}}"),
    (r"2x^2 - 3(x+1)^{-1}", "x"),
    (r"\sin(2\pi t) + e^{-t}\ln 2", r"\cos t"),
    (r"x > 3", r"(3, \infty)"),
    ("y = 2x", "2x - y = 0"),
    (r"\binom{5}{2} + 3!", "|x|"),
]
_SIMPLE = re.compile(r"-?\d{1,18}", re.ASCII)


def math_reward(
    response: str, problem: Problem, *, final_answer: str = "boxed", format_credit: float = 0.0
) -> Outcome:
    """Grade a response against `problem.answer`.

    final_answer: see `final_answer_of`. format_credit: the score of a WRONG answer that stands where it
    should. Of the problem's metadata, where present: `alt_answers`, other references that count; `unit`,
    the reference's; `tolerance`, absolute, and `relative_tolerance`, for answers that are numbers (the
    data sets of RELATIVE_TOLERANCE have one of their own).
    """
    metadata = problem.metadata
    alternatives = metadata.get("alt_answers") or ()
    outcome = grade(
        response,
        problem.answer,
        alternatives=(alternatives,) if isinstance(alternatives, str) else tuple(alternatives),
        unit=metadata.get("unit") or "",
        tolerance=_tolerance(problem),
        final_answer=final_answer,
    )
    if outcome.kind is Kind.WRONG:
        return Outcome(Kind.WRONG, format_credit, outcome.answer)
    return outcome


def _warm_up() -> None:
    """The parser builds its tables on first use, which can take longer than the answer has."""
    for answer, gold in _FIRST_PAIRS:
        grade(f"\\boxed{{{answer}}}", gold)


math_reward.warm_up = _warm_up  # for the pool


def grade(
    response: str,
    gold: str,
    *,
    alternatives: Sequence[str] = (),
    unit: str = "",
    tolerance: Tolerance = EXACT,
    final_answer: str = "boxed",
) -> Outcome:
    """Compare the final answer of a response with the reference `gold`, LaTeX or plain, no box.

    A gold of GSM8K's raw form ("... #### 18") is reduced to what follows the mark. alternatives: other
    references that count. unit: of a gold that is written without. The outcome's `answer` is the extracted
    answer as `normalise` writes it. A bomb is a TIMEOUT without being tried.
    """
    extracted = final_answer_of(response, final_answer)
    if not extracted:
        return NO_ANSWER
    golds = tuple(map(_reduced, (gold, *alternatives)))
    if _SIMPLE.fullmatch(extracted) and extracted in golds:
        return verdict(True, extracted)
    if len(extracted) > max(MAX_ANSWER_LENGTH, *(3 * len(g) for g in golds)):
        return verdict(False)
    answer = normalise(extracted)
    if not answer:
        return NO_ANSWER
    if any(answer == _normal_gold(g) for g in golds):
        return verdict(True, answer)
    if braces_too_deep(extracted, MAX_DEPTH):
        return Outcome(Kind.TIMEOUT, 0.0, answer)
    try:
        return verdict(_equals_one_of(extracted, golds, unit, tolerance), answer)
    except TooLarge:
        return Outcome(Kind.TIMEOUT, 0.0, answer)
    except Exception:  # noqa: BLE001 - parsers fail in many ways on text that a model wrote
        return Outcome(Kind.ERROR, 0.0, answer)


def final_answer_of(response: str, final_answer: str = "boxed") -> str | None:
    r"""Where an answer counts: the last \boxed{...}; None without one.

    With final_answer "hashes", a response without a box may end with "#### X" on a line, as GSM8K does.
    """
    boxed = last_boxed(response)
    if boxed is None and final_answer == "hashes":
        return last_hashes(response)
    return boxed


def _equals_one_of(extracted: str, golds: tuple[str, ...], unit: str, tolerance: Tolerance) -> bool:
    nodes = [node for text in _without_choice(extracted) for node in readings(text)]
    return any(
        same(node, gold, tolerance)
        for text in golds
        for gold in _gold_readings(text, unit)
        for node in nodes
    )


@lru_cache(maxsize=32_768)
def _gold_readings(gold: str, unit: str) -> list[Node]:
    text = clean(gold)
    # Between brackets a reference's comma separates: (100,101) is a pair.
    bracketed = text.startswith(("(", "[", r"\{"))
    nodes = [_as_expression(node) for node in ([parse(text)] if bracketed else readings(text))]
    if not unit:
        return nodes
    named = math_units.parse_unit(_unit_name(unit))
    return [
        Quantity(node.text, named, node.percent, node.factor)
        if isinstance(node, Quantity) and node.unit is None
        else node
        for node in nodes
    ]


def _as_expression(gold: Node) -> Node:
    """A reference's "6 m" is an expression: one that has a unit says so in a wrapper, or in full."""
    if isinstance(gold, Quantity) and re.search(r"(?<![A-Za-z])[A-Za-z]$", gold.written):
        return Quantity(gold.written)
    return gold


@lru_cache(maxsize=32_768)
def _normal_gold(gold: str) -> str:
    return normalise(gold)


def _reduced(gold: str) -> str:
    if "####" in gold and (match := _GSM8K.search(gold)):
        return match[1]
    return gold


def _unit_name(unit: str) -> str:
    unit = re.sub(r"[${}]|\\(?:text|mathrm)", "", unit).strip()
    return "deg" if unit in (r"^\circ", r"\circ") else unit


def _without_choice(extracted: str) -> list[str]:
    r"""The cleaned answer; of \textbf{(B)}\ 12 the letter and the 12."""
    text = clean(extracted)
    if match := _CHOICE.match(text):
        letter, rest = match[1] or match[2], text[match.end() :]
        return [text] if _OTHER_CHOICE.search(rest) else [letter, rest]
    return [text]


def _tolerance(problem: Problem) -> Tolerance:
    relative = problem.metadata.get(
        "relative_tolerance", RELATIVE_TOLERANCE.get(problem.dataset, 0.0)
    )
    return Tolerance(_number(relative), _number(problem.metadata.get("tolerance")))


def _number(value: object) -> float:
    try:
        return max(0.0, float(value or 0.0))
    except (TypeError, ValueError):
        return 0.0
