"""Grading in groups."""

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.grader import FunctionGrader
from riskpo_jax.rewards.grading import outcome_fractions, refuse_all_errors, submit_groups
from riskpo_jax.rewards.outcome import Kind, Outcome, verdict

PROBLEMS = [Problem(str(i), "?", str(i), "d") for i in range(3)]


def equals(response: str, problem: Problem) -> Outcome:
    return verdict(response == problem.answer, response)


def test_groups_follow_their_problem():
    responses = ["0", "1", "1", "1", "0", "2"]
    outcomes = submit_groups(FunctionGrader(equals), PROBLEMS, responses).result()
    assert [[o.correct for o in group] for group in outcomes] == [
        [True, False],
        [True, True],
        [False, True],
    ]
    fractions = outcome_fractions(outcomes)
    assert fractions["reward/correct"] == pytest.approx(4 / 6)
    assert set(fractions) == {f"reward/{kind}" for kind in Kind}
    assert sum(fractions.values()) == pytest.approx(1)


def test_a_reward_that_fails_on_a_whole_batch_ends_the_run():
    broken = Outcome(Kind.ERROR, 0.0)
    with pytest.raises(UserError, match="failed on all 3 responses of a batch"):
        refuse_all_errors([[broken], [broken, broken]])
    refuse_all_errors([[broken], [broken, verdict(False)]])
