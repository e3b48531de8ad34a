"""Evaluations come back from disk as they were, and a resumed run drops those of its future."""

import dataclasses

import numpy as np
import pytest

from riskpo_jax.evaluation import store
from riskpo_jax.evaluation.result import EvalResult


def result(step=50, entropy=0.5):
    return EvalResult(
        dataset="countdown",
        step=step,
        problem_ids=["a", "b"],
        levels=["easy", ""],
        correct_PxS=np.array([[True, False, True], [False, False, True]]),
        answers=[["1+2", "", "2+1"], ["", "√4", "4"]],
        outcomes=[["correct", "no_answer", "correct"], ["timeout", "wrong", "correct"]],
        lengths_PxS=np.array([[1, 2, 3], [4, 5, 6]]),
        truncated_PxS=np.array([[False, True, False], [False, False, False]]),
        entropy_PxS=np.full((2, 3), entropy),
    )


@pytest.mark.parametrize("entropy", [1 / 3, np.nan])
def test_what_is_loaded_is_what_was_saved(tmp_path, entropy):
    saved = result(entropy=entropy)
    store.save(tmp_path / "new" / "folder", saved)
    loaded = store.load(tmp_path / "new" / "folder", 50, "countdown")
    for field in dataclasses.fields(EvalResult):
        a, b = getattr(saved, field.name), getattr(loaded, field.name)
        if isinstance(a, np.ndarray):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        else:
            assert a == b
    assert saved.summary([1, 3])[0] == loaded.summary([1, 3])[0] or np.isnan(entropy)


def test_a_step_that_was_not_evaluated(tmp_path):
    assert store.load(tmp_path, 50, "countdown") is None
    store.save(tmp_path, result(50))
    assert store.load(tmp_path, 5, "countdown") is None


def test_the_later_of_two_of_one_step_stays(tmp_path):
    store.save(tmp_path, result(50, entropy=1.0))
    store.save(tmp_path, result(50, entropy=2.0))
    assert store.load(tmp_path, 50, "countdown").entropy_PxS[0, 0] == 2.0
    assert [path.name for path in (tmp_path / "000050").iterdir()] == ["countdown.json"]


def test_the_sets_of_one_step_stand_side_by_side(tmp_path):
    names = ["math500", "jsonl:a/b.jsonl", "jsonl:a_b.jsonl", "reasoning_gym/chain_sum", "../up"]
    for name in names:
        store.save(tmp_path, dataclasses.replace(result(50), dataset=name))
    assert [store.load(tmp_path, 50, name).dataset for name in names] == names
    assert store.load(tmp_path, 50, "aime24") is None
    assert len(list(tmp_path.rglob("*.json"))) == len(names) and len(list(tmp_path.iterdir())) == 1


def test_all_come_back_in_the_order_of_their_steps(tmp_path):
    assert store.load_all(tmp_path / "absent") == []
    for step in (1_234_567, 200_000, 0):
        for name in ("math500", "aime24"):
            store.save(tmp_path, dataclasses.replace(result(step), dataset=name))
    (tmp_path / "notes.json").write_text("{}")
    found = [(one.step, one.dataset) for one in store.load_all(tmp_path)]
    names = ("aime24", "math500")
    assert found == [(step, name) for step in (0, 200_000, 1_234_567) for name in names]


def test_drop_after_keeps_the_step_itself_and_all_before(tmp_path):
    steps = [0, 50, 100, 1_234_567]
    for step in steps:
        store.save(tmp_path, result(step))
    store.drop_after(tmp_path, 50)
    assert [step for step in steps if store.load(tmp_path, step, "countdown")] == [0, 50]
    store.drop_after(tmp_path / "absent", 50)


def test_drop_after_leaves_other_files_alone(tmp_path):
    (tmp_path / "notes.json").write_text("{}")
    store.drop_after(tmp_path, 0)
    assert (tmp_path / "notes.json").exists()
