r"""The reward of mathematics problems: math-verify (Hugging Face), with some gaps closed.

- Only a final answer is graded: the last \boxed{...}, else a closing "#### X" or "The answer is X".
- A timeout or failure of the grader is told apart from a wrong answer.
- An equation is graded as a whole: \boxed{4=5} is not 5.

math-verify's time limits use SIGALRM: they hold in the main thread only, and cancel a timer that
the caller may have set. Elsewhere grading works without limits.
"""

from __future__ import annotations

import re
import threading
from functools import lru_cache
from string import whitespace

from math_verify import LatexExtractionConfig, parse, verify
from math_verify.errors import TimeoutException

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.extraction import last_boxed
from riskpo_jax.rewards.outcome import NO_ANSWER, Kind, Outcome, verdict

MAX_ANSWER_LENGTH = 500  # characters; nothing longer is worth a symbolic comparison
TIMEOUT_SECONDS = 3  # of one parse or one comparison

_CLOSING = re.compile(r"(?:####|\banswer\s+is\b:?)[ \t]*(\S.*)$", re.IGNORECASE | re.MULTILINE)
_WRAPPER = re.compile(r"\\(?:text|textbf|textrm|mathrm|mathbf|mbox)\s*\{([^{}]*)\}")
_THOUSANDS = re.compile(r"(?<=\d)(?:,|\{,\})(?=\d{3}(?!\d))")
_LOOSE_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
_EQUALS = re.compile(r"(?<![\\<>!:=])=(?!=)")
_NAME = re.compile(r"[A-Za-z\\][A-Za-z\\ ]*(?:_\{?\w+\}?)?'?(?:\(\s*\w+(?:\s*,\s*\w+)*\s*\))?")
_SEVERAL = re.compile(r",|;|\\\\|\b(?:and|or)\b")


def math_reward(response: str, problem: Problem) -> Outcome:
    """Grade a response against `problem.answer`."""
    return grade(response, problem.answer)


def grade(response: str, gold: str) -> Outcome:
    """Compare the final answer of a response with the reference `gold`, LaTeX or plain, no box.

    The outcome's `answer` is the extracted answer as `normalise` writes it.
    """
    extracted = final_answer(response)
    if not extracted:
        return NO_ANSWER
    if len(extracted) > MAX_ANSWER_LENGTH:
        return verdict(False)
    answer = normalise(extracted)
    if not answer:
        return NO_ANSWER
    if answer == normalise(gold):
        return verdict(True, answer)
    try:
        return verdict(_equivalent(extracted, gold), answer)
    except TimeoutException:
        return Outcome(Kind.TIMEOUT, 0.0, answer)
    except Exception:  # noqa: BLE001 - sympy fails in many ways on text that a model wrote
        return Outcome(Kind.ERROR, 0.0, answer)


def final_answer(response: str) -> str | None:
    r"""The content of the last \boxed{...}, else the X of the last "#### X" or "answer is X".

    An X without a box ends with its line or sentence. Dollar signs and \( \) around an answer, and
    the asterisks of bold print, are no part of it.
    """
    boxed = last_boxed(response)
    if boxed is None:
        closings = _CLOSING.findall(response)
        boxed = closings[-1].partition(". ")[0] if closings else None
    return boxed and _without_delimiters(boxed)


def _without_delimiters(answer: str) -> str:
    """Linear in the length: a model may write a megabyte of asterisks."""
    answer = answer.lstrip(whitespace + "$*").removeprefix("\\(")
    return answer.rstrip(whitespace + "$*.").removesuffix("\\)").strip()


def normalise(answer: str) -> str:
    """One spelling for answers that differ in typography only; equal normal forms mean the same.

    Drops dollar signs, \\left and \\right, thin spaces, text wrappers, thousands separators, a
    final full stop, and spaces except between two words or numbers ("1 1/2" is not "11/2").
    """
    answer = answer.replace("\\$", "").replace("$", "").replace("\\!", "").replace("\\,", "")
    answer = re.sub(r"\\(?:left|right)(?![A-Za-z])", "", answer)
    answer = re.sub(r"\\[dt]frac", r"\\frac", answer)
    answer = _WRAPPER.sub(r"\1", answer)
    answer = _THOUSANDS.sub("", answer.strip().rstrip("."))
    return _LOOSE_SPACE.sub("", re.sub(r"\s+", " ", answer))


def _equivalent(answer: str, gold: str) -> bool:
    """Whether two answers are mathematically equal."""
    timeout = TIMEOUT_SECONDS if threading.current_thread() is threading.main_thread() else None
    gold_parsed = _parse_gold(gold, timeout)
    if not gold_parsed:
        raise ValueError(f"the reference answer {gold!r} does not parse")
    return all(
        verify(gold_parsed, _parse(side, timeout), timeout_seconds=timeout, raise_on_error=True)
        for side in _sides(answer, gold)
    )


def _sides(answer: str, gold: str) -> list[str]:
    """What must equal a `gold` that is no equation: every side of "x = 2+3 = 5" but a name.

    math-verify takes the last side of an equation and ignores the others.
    """
    if _EQUALS.search(gold) or _SEVERAL.search(answer):
        return [answer]
    *names, last = _EQUALS.split(answer)
    return [side for side in names if not _NAME.fullmatch(side.strip())] + [last]


def _parse(answer: str, timeout: int | None) -> list:
    answer = answer.replace("\\$", "").replace("$", "")
    return parse(
        f"\\boxed{{{answer}}}",
        extraction_config=[LatexExtractionConfig()],
        parsing_timeout=timeout,
        raise_on_error=True,
    )


_parse_gold = lru_cache(maxsize=65_536)(_parse)
