"""What a rollout batch shows to the trainer and to people."""

import numpy as np
import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.outcome import NO_ANSWER, Kind, Outcome, verdict
from riskpo_jax.training.post_train import Experience


@pytest.fixture
def experience():
    problems = [Problem(f"p{q}", f"text {q}", f"gold {q}", "set", level="easy") for q in range(2)]
    outcomes = [[verdict(True, "a"), NO_ANSWER], [Outcome(Kind.WRONG, 0.25), verdict(True)]]
    return Experience(None, None, problems, ["r0", "r1", "r2", "r3"], outcomes, {})


def test_rewards_are_the_scores_question_by_question(experience):
    rewards = experience.rewards_QxG()
    assert rewards.dtype == np.float32
    np.testing.assert_array_equal(rewards, [[1, 0], [0.25, 1]])


def test_records_pair_each_response_with_its_own_problem_and_verdict(experience):
    records = experience.records(3)
    assert [(r["id"], r["response"], r["outcome"], r["reward"]) for r in records] == [
        ("p0", "r0", "correct", 1.0),
        ("p0", "r1", "no_answer", 0.0),
        ("p1", "r2", "wrong", 0.25),
    ]
    assert records[2]["problem"] == "text 1" and records[2]["answer"] == "gold 1"
    assert len(experience.records(99)) == 4 and experience.records(0) == []
