"""math-verify by itself as a reward, for comparison in `experiments.math_report`."""

from __future__ import annotations

import logging

from math_verify import parse, verify

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.outcome import Outcome, verdict

logging.getLogger("math_verify").setLevel(logging.ERROR)  # it warns that its time limits are off


def math_verify_reward(response: str, problem: Problem) -> Outcome:
    """What math-verify says of the whole response."""
    gold = parse(f"\\boxed{{{problem.answer}}}", parsing_timeout=None)
    return verdict(verify(gold, parse(response, parsing_timeout=None), timeout_seconds=None))
