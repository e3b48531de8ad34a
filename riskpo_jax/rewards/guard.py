"""One response before a reward function that can fail in any way."""

from __future__ import annotations

import math
import traceback

from absl import logging

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.outcome import Kind, Outcome, Reward


def grade_one(reward: Reward, response: str, problem: Problem) -> Outcome:
    """The outcome of one response; a reward that raises, or scores NaN or infinity, is an ERROR of 0.

    One bad verdict must neither end a run nor reach the tracker, where a NaN would stay.

    Raises:
      UserError: the reward returns something else than an `Outcome`, or a score that is no number.
    """
    try:
        outcome = reward(response, problem)
    except Exception as error:  # noqa: BLE001 - a user's code can fail in any way
        raised = traceback.extract_tb(error.__traceback__)[-1]
        logging.log_first_n(
            logging.WARNING,
            "the reward failed on problem %s: %r, raised at %s:%s",
            3,
            *(problem.id, error, raised.filename, raised.lineno),
        )
        return Outcome(Kind.ERROR, 0.0)
    if not isinstance(outcome, Outcome):
        raise UserError(
            f"the reward returned {outcome!r:.60} for problem {problem.id}: it must return a "
            "riskpo_jax.rewards.outcome.Outcome"
        )
    try:
        is_finite = math.isfinite(outcome.score)
    except TypeError:
        raise UserError(
            f"the reward returned the score {outcome.score!r:.60} for problem {problem.id}: it must be a "
            "number"
        ) from None
    if not is_finite:
        logging.log_first_n(
            logging.WARNING, "the reward scored %s on problem %s", 3, outcome.score, problem.id
        )
        return Outcome(Kind.ERROR, 0.0, outcome.answer)
    return outcome
