"""Sources of reasoning-gym tasks."""

import builtins

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.reasoning_gym import ReasoningGymSource, without
from riskpo_jax.errors import UserError


def test_the_missing_package_is_named_with_its_remedy(monkeypatch):
    real = builtins.__import__

    def no_reasoning_gym(name, *args, **kwargs):
        if name == "reasoning_gym":
            raise ImportError("No module named 'reasoning_gym'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_reasoning_gym)
    with pytest.raises(UserError, match=r"pip install 'riskpo_jax\[reasoning-gym\]'"):
        ReasoningGymSource("chain_sum", 0, "train", 3)


def test_without_drops_what_training_has():
    def source(*texts):
        return [Problem(id=t, text=t, answer="", dataset="") for t in texts]

    kept = without(source("a", "b", "c"), source("b", "d"))
    assert [kept[i].text for i in range(len(kept))] == ["a", "c"]
    with pytest.raises(UserError, match="every evaluation problem"):
        without(source("a"), source("a"))


class TestInstalled:
    """With the library itself."""

    @pytest.fixture(autouse=True)
    def installed(self):
        pytest.importorskip("reasoning_gym", reason="the reasoning-gym extra is not installed")

    def test_deterministic_and_the_splits_are_far_apart(self):
        sources = [ReasoningGymSource("chain_sum", 3, split, 200) for split in ("train", "eval")]
        train, evaluation = ([s[i].text for i in range(200)] for s in sources)
        assert (
            train
            == [ReasoningGymSource("chain_sum", 3, "train", 9)[i].text for i in range(9)]
            + train[9:]
        )
        assert len(set(train) & set(evaluation)) < 20
        next_seed = ReasoningGymSource("chain_sum", 4, "train", 200)
        assert len(set(train) & {next_seed[i].text for i in range(200)}) < 20

    def test_a_problem_carries_its_entry(self):
        source = ReasoningGymSource("chain_sum", 0, "train", 2, min_terms=2, max_terms=2)
        problem = source[1]
        assert problem.metadata["entry"]["answer"] == problem.answer
        assert (
            problem.dataset == "reasoning_gym/chain_sum" and problem.metadata["task"] == "chain_sum"
        )
        with pytest.raises(IndexError):
            source[2]

    def test_unknown_task_lists_close_names(self):
        with pytest.raises(UserError, match="close names: .*chain_sum"):
            ReasoningGymSource("chain_sums", 0, "train", 3)

    def test_wrong_option(self):
        with pytest.raises(UserError, match="chain_sum.*no_such_option"):
            ReasoningGymSource("chain_sum", 0, "train", 3, no_such_option=1)
