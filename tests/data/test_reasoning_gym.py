"""Sources of reasoning-gym tasks."""

import builtins

import numpy as np
import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.prompts import fill_template
from riskpo_jax.data.reasoning_gym import ReasoningGymSource, parse_options, shown, without
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


def test_options_of_a_task():
    given = ["n=4", "p=0.5", "far=1e3", "yes=true", "no=false", "text=a=b"]
    parsed = parse_options(given)
    assert parsed == {"n": 4, "p": 0.5, "far": 1000.0, "yes": True, "no": False, "text": "a=b"}
    assert [type(value) for value in parsed.values()] == [int, float, float, bool, bool, str]


@pytest.mark.parametrize(
    "options", [["n"], ["=4"], ["a b=1"], ["n=1", "n=2"], ["seed=1"], ["size=9"]]
)
def test_what_is_no_option(options):
    with pytest.raises(UserError, match=f"task_options: '{options[-1]}' must be NAME=VALUE"):
        parse_options(options)


def test_what_a_prompt_can_show():
    entry = {
        "text": "3 -> 4",
        "numbers": [6, 10, 4],
        "grid": [[1, 0], ("x", np.int64(7))],
        "scalar": np.float32(0.5),
        "none": None,
        "deep": [[[1]]],
        "mapping": {"a": 1},
        "holes": [1, None],
        "empty": [],
    }
    assert shown(entry) == {
        "text": "3 -> 4",
        "numbers": "6 10 4",
        "grid": "1 0\nx 7",
        "scalar": 0.5,
        "empty": "",
    }


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

    def test_a_template_shows_what_the_entry_holds(self):
        problem = ReasoningGymSource("mini_sudoku", 0, "train", 1, min_empty=4, max_empty=4)[0]
        rows = problem.metadata["entry"]["metadata"]["puzzle"]
        prompt = fill_template("{task} {num_empty}\n{puzzle}", problem)
        assert prompt == "\n".join(["mini_sudoku 4", *(" ".join(map(str, row)) for row in rows)])

    @pytest.mark.parametrize("task", ["mini_sudoku", "palindrome_generation", "shortest_path"])
    def test_a_text_that_the_scorer_accepts_is_the_solution(self, task):
        source = ReasoningGymSource(task, 0, "train", 3)
        for problem in (source[i] for i in range(3)):
            assert problem.metadata["solution"] == problem.metadata["entry"]["answer"]

    def test_no_answer_and_one_that_scores_less_are_no_solutions(self, monkeypatch):
        assert "solution" not in ReasoningGymSource("rush_hour", 0, "train", 1)[0].metadata
        source = ReasoningGymSource("chain_sum", 0, "train", 1)
        for score in (0.99, 1.0):
            monkeypatch.setattr(source, "_score", lambda answer, entry, score=score: score)
            assert ("solution" in source[0].metadata) == (score == 1.0)

        def fails(answer, entry):
            raise KeyError("answer")

        monkeypatch.setattr(source, "_score", fails)
        assert "solution" not in source[0].metadata

    def test_a_solution_that_nothing_scored_is_none(self, monkeypatch):
        """Supervised training would learn from it."""
        source = ReasoningGymSource("chain_sum", 0, "train", 1)
        entry = source[0].metadata["entry"]
        own = entry | {"metadata": entry["metadata"] | {"solution": "as the task keeps it"}}
        monkeypatch.setattr(source, "_entry", lambda index: own)
        assert source[0].metadata["solution"] == entry["answer"]
        monkeypatch.setattr(source, "_score", lambda answer, entry: 0.5)
        assert "solution" not in source[0].metadata

    def test_an_entry_is_generated_once(self, monkeypatch):
        source = ReasoningGymSource("chain_sum", 0, "train", 2)
        assert source[0].metadata["entry"] is source[0].metadata["entry"]

    def test_unknown_task_lists_close_names(self):
        with pytest.raises(UserError, match="close names: .*chain_sum"):
            ReasoningGymSource("chain_sums", 0, "train", 3)

    def test_wrong_option(self):
        with pytest.raises(UserError, match="chain_sum.*no_such_option"):
            ReasoningGymSource("chain_sum", 0, "train", 3, no_such_option=1)
