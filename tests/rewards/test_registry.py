"""The graders that names stand for."""

import contextlib

import pytest

from riskpo_jax.config import RewardConfig
from riskpo_jax.data.problem import Problem
from riskpo_jax.data.reasoning_gym import ReasoningGymSource
from riskpo_jax.errors import UserError
from riskpo_jax.rewards import registry
from riskpo_jax.rewards.grader import FunctionGrader
from riskpo_jax.rewards.pool import PoolGrader
from riskpo_jax.rewards.registry import make_grader


@pytest.fixture
def own_module(tmp_path, monkeypatch):
    (tmp_path / "users_rewards.py").write_text(
        "from riskpo_jax.rewards.outcome import verdict\n"
        "def exact(response, problem):\n"
        "    return verdict(response == problem.answer, response)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_each_problem_is_graded_by_its_own_reward():
    with contextlib.closing(make_grader(RewardConfig(workers=1), {"math", "countdown"})) as grader:
        outcomes = grader.submit(
            [r"\boxed{1{,}000}", "3*4", "3+4"],
            [
                Problem("m", "?", "1000", "gsm8k", reward="math"),
                *[Problem("c", "?", "7", "c", metadata={"numbers": "3 4"}, reward="countdown")] * 2,
            ],
        ).result()
    assert [outcome.correct for outcome in outcomes] == [True, False, True]


@pytest.mark.parametrize("name", ["auto", "countdown"])
def test_distance_reaches_countdown(name):
    problem = Problem("c", "?", "7", "c", metadata={"numbers": "3 4"}, reward="countdown")
    config = RewardConfig(name, countdown_score="distance")
    with contextlib.closing(make_grader(config, {"countdown"})) as grader:
        outcomes = grader.submit(["3+4", "3*4", "7"], [problem] * 3).result()
    assert [outcome.score for outcome in outcomes] == [1.0, 0.5 / 6, 0.0]


def test_a_reward_by_name_grades_all(own_module):
    with contextlib.closing(make_grader(RewardConfig("users_rewards:exact"), {""})) as grader:
        assert isinstance(grader, FunctionGrader)
        assert grader.submit(["x"], [Problem("p", "", "x", "d")]).result()[0].correct
    isolated = RewardConfig("users_rewards:exact", isolate=True, workers=1)
    with contextlib.closing(make_grader(isolated, {""})) as grader:
        assert isinstance(grader, PoolGrader)
        assert grader.submit(["x"], [Problem("p", "", "x", "d")]).result()[0].correct


def test_problems_that_name_no_reward_need_one():
    with pytest.raises(UserError, match="do not say what grades them: give --reward.name"):
        make_grader(RewardConfig(), {"math", ""})


def test_the_options_of_mathematics_reach_it():
    config = RewardConfig("math", final_answer="hashes", format_credit=0.25, workers=1)
    with contextlib.closing(make_grader(config, set())) as grader:
        outcomes = grader.submit(["#### 5", "#### 6"], [Problem("p", "", "5", "d")] * 2).result()
    assert [outcome.score for outcome in outcomes] == [1.0, 0.25]


@pytest.mark.parametrize(("score", "partial"), [("graded", True), ("all", False)])
def test_partial_credit_of_reasoning_gym_is_a_choice(score, partial):
    pytest.importorskip("reasoning_gym", reason="the reasoning-gym extra is not installed")
    problem = ReasoningGymSource("mini_sudoku", 0, "train", 1)[0]
    solution = problem.metadata["solution"]
    config = RewardConfig(reasoning_gym_score=score, workers=1, timeout_s=5.0)
    with contextlib.closing(make_grader(config, {"reasoning_gym"})) as grader:
        right, wrong = grader.submit([solution, solution.replace("1", "2")], [problem] * 2).result()
    assert (right.score, right.correct) == (1.0, True)
    assert (0 < wrong.score < 1) == partial and not wrong.correct


def test_when_one_grader_cannot_be_made_the_others_are_closed(monkeypatch):
    closed = []

    class First:
        def __init__(self, **_):
            pass

        def close(self):
            closed.append(True)

    def refuse(*_, **__):
        raise UserError("no worker starts")

    monkeypatch.setattr(registry, "CodeGrader", First)
    monkeypatch.setattr(registry, "PoolGrader", refuse)
    with pytest.raises(UserError, match="no worker starts"):
        make_grader(RewardConfig(), {"code", "math"})
    assert closed == [True]
