"""Rewards that misbehave."""

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.guard import grade_one
from riskpo_jax.rewards.outcome import Kind, Outcome

PROBLEM = Problem("2", "?", "2", "d")


def test_a_reward_that_raises_is_an_error_of_the_grader():
    def broken(response: str, problem: Problem) -> Outcome:
        raise KeyError("numbers")

    assert grade_one(broken, "x", PROBLEM) == Outcome(Kind.ERROR, 0.0)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_an_error(score):
    outcome = grade_one(lambda *_: Outcome(Kind.CORRECT, score, "a"), "x", PROBLEM)
    assert outcome == Outcome(Kind.ERROR, 0.0, "a")


@pytest.mark.parametrize("score", ["1", None])
def test_a_score_must_be_a_number(score):
    with pytest.raises(UserError, match="score.*for problem 2.*must be a number"):
        grade_one(lambda *_: Outcome(Kind.CORRECT, score), "x", PROBLEM)


def test_a_graded_score_passes_through():
    outcome = Outcome(Kind.WRONG, 0.375, "a")
    assert grade_one(lambda *_: outcome, "x", PROBLEM) is outcome


def test_a_reward_must_return_an_outcome():
    with pytest.raises(UserError, match="returned 1.0 for problem 2.*Outcome"):
        grade_one(lambda *_: 1.0, "x", PROBLEM)
