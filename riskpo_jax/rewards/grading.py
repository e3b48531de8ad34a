"""Grading a batch of responses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.outcome import Kind, Outcome, Reward


def grade_groups(
    reward: Reward, problems: Sequence[Problem], responses: Sequence[str]
) -> list[list[Outcome]]:
    """Outcomes[Q][G] of N = Q * G responses, those of one problem next to each other."""
    group_size = len(responses) // len(problems)
    return [
        [reward(text, problem) for text in responses[q * group_size : (q + 1) * group_size]]
        for q, problem in enumerate(problems)
    ]


def outcome_fractions(outcomes: Sequence[Sequence[Outcome]]) -> dict[str, float]:
    """reward/<kind>: the fraction of responses of each kind, all kinds named."""
    counts = Counter(outcome.kind for group in outcomes for outcome in group)
    total = max(counts.total(), 1)
    return {f"reward/{kind}": counts[kind] / total for kind in Kind}
