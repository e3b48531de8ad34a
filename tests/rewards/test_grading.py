"""Grading in groups, and rewards that misbehave."""

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.grading import grade_groups, grade_one, outcome_fractions
from riskpo_jax.rewards.outcome import Kind, Outcome, verdict

PROBLEMS = [Problem(str(i), "?", str(i), "d") for i in range(3)]


def equals(response: str, problem: Problem) -> Outcome:
    return verdict(response == problem.answer, response)


def test_groups_follow_their_problem():
    outcomes = grade_groups(equals, PROBLEMS, ["0", "1", "1", "1", "0", "2"])
    assert [[o.correct for o in group] for group in outcomes] == [
        [True, False],
        [True, True],
        [False, True],
    ]
    fractions = outcome_fractions(outcomes)
    assert fractions["reward/correct"] == pytest.approx(4 / 6)
    assert set(fractions) == {f"reward/{kind}" for kind in Kind}
    assert sum(fractions.values()) == pytest.approx(1)


def test_a_reward_that_raises_is_an_error_of_the_grader():
    def broken(response: str, problem: Problem) -> Outcome:
        raise KeyError("numbers")

    assert grade_one(broken, "x", PROBLEMS[0]) == Outcome(Kind.ERROR, 0.0)


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf")])
def test_a_score_that_is_no_number_is_an_error(score):
    outcome = grade_one(lambda *_: Outcome(Kind.CORRECT, score, "a"), "x", PROBLEMS[0])
    assert outcome == Outcome(Kind.ERROR, 0.0, "a")


def test_a_reward_must_return_an_outcome():
    with pytest.raises(UserError, match="returned 1.0 for problem 2.*Outcome"):
        grade_one(lambda *_: 1.0, "x", PROBLEMS[2])


def test_a_reward_that_fails_on_a_whole_batch_ends_the_run():
    def broken(response: str, problem: Problem) -> Outcome:
        if response != "good":
            raise ValueError("no")
        return verdict(True)

    with pytest.raises(UserError, match="failed on all 3 responses of a batch"):
        grade_groups(broken, PROBLEMS, ["a", "b", "c"])
    assert grade_groups(broken, PROBLEMS, ["a", "b", "good"])[2][0].correct
