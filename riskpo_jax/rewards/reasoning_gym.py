"""The reward of a reasoning-gym task: its own scorer."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.reasoning_gym import import_reasoning_gym
from riskpo_jax.rewards.extraction import last_boxed, last_tagged
from riskpo_jax.rewards.outcome import NO_ANSWER, Kind, Outcome, verdict


def reasoning_gym_reward(response: str, problem: Problem) -> Outcome:
    r"""Score a response with the scorer of metadata["task"] on metadata["entry"].

    The answer is the content of the last <answer>...</answer>, else of the last \boxed{...}, else
    the whole response. Only a full score is correct; scores between 0 and 1 pass through. A scorer that
    raises is an error, not a wrong answer.
    """
    answer = last_tagged(response) or last_boxed(response) or response.strip()
    if not answer:
        return NO_ANSWER
    try:
        theirs = float(_scorer(problem.metadata["task"])(answer, problem.metadata["entry"]))
    except Exception:  # noqa: BLE001 - the scorers are many, and run on text that a model wrote
        return Outcome(Kind.ERROR, 0.0, answer)
    return Outcome(Kind.CORRECT if theirs >= 1.0 else Kind.WRONG, theirs, answer)


def full_score_reward(response: str, problem: Problem) -> Outcome:
    """As `reasoning_gym_reward`, but what is wrong scores 0."""
    outcome = reasoning_gym_reward(response, problem)
    return verdict(False, outcome.answer) if outcome.kind is Kind.WRONG else outcome


def _warm_up() -> None:
    """The library takes longer to import than a response may, and an import cut off spoils it for good."""
    import_reasoning_gym()


reasoning_gym_reward.warm_up = full_score_reward.warm_up = _warm_up  # for the pool


@cache
def _scorer(task: str) -> Callable[[str, dict], float]:
    return import_reasoning_gym().get_score_answer_fn(task)
