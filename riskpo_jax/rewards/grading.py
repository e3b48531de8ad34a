"""Grading a batch of responses."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from absl import logging

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.outcome import Kind, Outcome, Reward


def grade_groups(
    reward: Reward, problems: Sequence[Problem], responses: Sequence[str]
) -> list[list[Outcome]]:
    """Outcomes[Q][G] of N = Q * G responses, those of one problem next to each other.

    Raises:
      UserError: the reward returns something else than an `Outcome`, or fails on every response.
    """
    group_size = len(responses) // len(problems)
    outcomes = [
        [
            grade_one(reward, text, problem)
            for text in responses[q * group_size : (q + 1) * group_size]
        ]
        for q, problem in enumerate(problems)
    ]
    if all(outcome.kind is Kind.ERROR for group in outcomes for outcome in group):
        raise UserError(
            f"the reward failed on all {len(responses)} responses of a batch (see the warnings above): "
            "mend it, the run goes on from its latest checkpoint"
        )
    return outcomes


def grade_one(reward: Reward, response: str, problem: Problem) -> Outcome:
    """The outcome of one response; a reward that raises, or scores NaN or infinity, is an ERROR of 0.

    One bad verdict must neither end a run nor reach the tracker, where a NaN would stay.

    Raises:
      UserError: the reward returns something else than an `Outcome`.
    """
    try:
        outcome = reward(response, problem)
    except Exception as error:  # noqa: BLE001 - a user's code can fail in any way
        logging.log_first_n(
            logging.WARNING, "the reward failed on problem %s: %r", 3, problem.id, error
        )
        return Outcome(Kind.ERROR, 0.0)
    if not isinstance(outcome, Outcome):
        raise UserError(
            f"the reward returned {outcome!r:.60} for problem {problem.id}: it must return a "
            "riskpo_jax.rewards.outcome.Outcome"
        )
    if not math.isfinite(outcome.score):
        logging.log_first_n(
            logging.WARNING, "the reward scored %s on problem %s", 3, outcome.score, problem.id
        )
        return Outcome(Kind.ERROR, 0.0, outcome.answer)
    return outcome


def outcome_fractions(outcomes: Sequence[Sequence[Outcome]]) -> dict[str, float]:
    """reward/<kind>: the fraction of responses of each kind, all kinds named."""
    counts = Counter(outcome.kind for group in outcomes for outcome in group)
    total = max(counts.total(), 1)
    return {f"reward/{kind}": counts[kind] / total for kind in Kind}
