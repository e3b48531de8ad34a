"""Grading the groups of a batch: Q problems with G responses each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.grader import Grader
from riskpo_jax.rewards.outcome import Kind, Outcome

Groups = list[list[Outcome]]
"""outcomes[Q][G]"""


@dataclass(frozen=True)
class PendingOutcomes:
    """Verdicts on the way."""

    future: Future[list[Outcome]]
    group_size: int

    def result(self) -> Groups:
        """Waits for them. Raises UserError for a reward that returns something else."""
        flat, G = self.future.result(), self.group_size
        return [flat[start : start + G] for start in range(0, len(flat), G)]


def submit_groups(
    grader: Grader, problems: Sequence[Problem], responses: Sequence[str]
) -> PendingOutcomes:
    """Has N = Q * G responses graded, those of one problem next to each other."""
    group_size = len(responses) // len(problems)
    repeated = [problem for problem in problems for _ in range(group_size)]
    return PendingOutcomes(grader.submit(responses, repeated), group_size)


def refuse_all_errors(outcomes: Groups) -> None:
    """Ends what relies on a grader that is broken altogether.

    Raises:
      UserError: every outcome is an ERROR.
    """
    flat = [outcome for group in outcomes for outcome in group]
    if all(outcome.kind is Kind.ERROR for outcome in flat):
        raise UserError(
            f"the reward failed on all {len(flat)} responses of a batch (see the warnings above): "
            "mend it and give the same command again, which goes on from what is saved"
        )


def outcome_fractions(outcomes: Sequence[Sequence[Outcome]]) -> dict[str, float]:
    """reward/<kind>: the fraction of responses of each kind, all kinds named."""
    counts = Counter(outcome.kind for group in outcomes for outcome in group)
    total = max(counts.total(), 1)
    return {f"reward/{kind}": counts[kind] / total for kind in Kind}
