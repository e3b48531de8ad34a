"""Scores of reasoning-gym's own scorers pass through."""

import contextlib

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.reasoning_gym import ReasoningGymSource
from riskpo_jax.rewards import reasoning_gym
from riskpo_jax.rewards.functions import FUNCTIONS
from riskpo_jax.rewards.outcome import Kind
from riskpo_jax.rewards.pool import PoolGrader
from riskpo_jax.rewards.reasoning_gym import full_score_reward, reasoning_gym_reward

PROBLEM = Problem("p", "?", "7", "t", metadata={"task": "t", "entry": {"answer": "7"}})


def test_graded_scores_pass_and_only_a_full_one_is_correct(monkeypatch):
    monkeypatch.setattr(reasoning_gym, "_scorer", lambda task: lambda answer, entry: float(answer))
    outcomes = [reasoning_gym_reward(f"<answer>{s}</answer>", PROBLEM) for s in ("0.25", "1")]
    assert [(o.kind, o.score) for o in outcomes] == [(Kind.WRONG, 0.25), (Kind.CORRECT, 1.0)]
    assert reasoning_gym_reward("<answer>not a float</answer>", PROBLEM).kind is Kind.ERROR


def test_a_score_of_all_or_nothing(monkeypatch):
    monkeypatch.setattr(reasoning_gym, "_scorer", lambda task: lambda answer, entry: float(answer))
    outcomes = [full_score_reward(s, PROBLEM) for s in ("0.99", "1", "x")]
    assert [(o.kind, o.score, o.answer) for o in outcomes] == [
        (Kind.WRONG, 0.0, "0.99"),
        (Kind.CORRECT, 1.0, "1"),
        (Kind.ERROR, 0.0, "x"),
    ]


def test_where_the_answer_is_looked_for(monkeypatch):
    monkeypatch.setattr(reasoning_gym, "_scorer", lambda task: lambda answer, entry: 1.0)
    for response, answer in [
        (r"\boxed{1} <answer>2</answer>", "2"),
        (r"so \boxed{1}", "1"),
        (" two\nlines ", "two\nlines"),
    ]:
        assert reasoning_gym_reward(response, PROBLEM).answer == answer
    assert reasoning_gym_reward(" \n", PROBLEM).kind is Kind.NO_ANSWER


@pytest.mark.parametrize("task", ["chain_sum", "basic_arithmetic", "countdown"])
def test_real_tasks(task):
    pytest.importorskip("reasoning_gym", reason="the reasoning-gym extra is not installed")
    source = ReasoningGymSource(task, 0, "train", 5)
    for problem in (source[i] for i in range(5)):
        assert reasoning_gym_reward(f"I say <answer>{problem.answer}</answer>", problem).correct
        assert not reasoning_gym_reward("<answer>-12345</answer>", problem).correct


def test_the_first_responses_of_a_worker_do_not_pay_for_its_imports():
    """Which take longer than a response may, and leave the library half loaded where they are cut off."""
    pytest.importorskip("reasoning_gym", reason="the reasoning-gym extra is not installed")
    source = ReasoningGymSource("chain_sum", 0, "train", 6)
    problems = [source[i] for i in range(6)]
    grader = PoolGrader(FUNCTIONS["reasoning_gym"], {}, workers=2, timeout_s=0.6, memory_mb=1024)
    with contextlib.closing(grader):
        outcomes = grader.submit([problem.answer for problem in problems], problems).result()
    assert [outcome.kind for outcome in outcomes] == [Kind.CORRECT] * 6
