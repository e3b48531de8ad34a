"""Rows of eval.jsonl against the definition of each key, level by level."""

import dataclasses

import numpy as np
import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.bootstrap import mean_interval
from riskpo_jax.evaluation.metrics import maj_at_k, pass_at_k
from riskpo_jax.evaluation.result import EvalResult, compare, scalars


def make_result(step=0, seed=0, chance=(0.7, 0.3), per_level=20, samples=8):
    """`per_level` easy problems, then as many hard ones, solved with the chances given."""
    rng = np.random.default_rng(seed)
    problems = 2 * per_level
    chances_P = np.repeat(chance, per_level)
    correct_PxS = rng.random((problems, samples)) < chances_P[:, None]
    return EvalResult(
        dataset="countdown",
        step=step,
        problem_ids=[f"p{n}" for n in range(problems)],
        levels=["easy"] * per_level + ["hard"] * per_level,
        correct_PxS=correct_PxS,
        answers=[["42" if right else "" for right in row] for row in correct_PxS],
        outcomes=[["correct" if right else "wrong" for right in row] for row in correct_PxS],
        lengths_PxS=rng.integers(1, 30, correct_PxS.shape),
        truncated_PxS=rng.random(correct_PxS.shape) < 0.1,
        entropy_PxS=rng.random(correct_PxS.shape),
    )


def test_rows_are_the_levels_in_order_then_all():
    rows = make_result(step=7).summary([1, 4])
    assert [row["dataset"] for row in rows] == ["countdown/easy", "countdown/hard", "countdown/all"]
    assert [row["n"] for row in rows] == [20, 20, 40]
    assert all(row["step"] == 7 and row["samples"] == 8 for row in rows)


def test_levels_that_are_numbers_stand_in_their_order():
    result = dataclasses.replace(make_result(), levels=["10", "2", "", "1"] * 10)
    names = [row["dataset"] for row in result.summary([1])]
    assert names == ["countdown/1", "countdown/2", "countdown/10", "countdown/all"]


def test_each_level_is_evaluated_alone():
    result = make_result()
    easy, hard, whole = result.summary([1, 8])
    for row, part in ((easy, slice(0, 20)), (hard, slice(20, 40)), (whole, slice(0, 40))):
        correct, lengths = result.correct_PxS[part], result.lengths_PxS[part]
        assert row["pass@1"] == pytest.approx(correct.mean())
        assert row["avg@8"] == pytest.approx(correct.mean())
        assert row["pass@8"] == row["maj@8"] == pytest.approx(correct.any(axis=1).mean())
        assert row["pass@1/low"] < row["pass@1"] < row["pass@1/high"]
        assert row["outcome/correct"] == correct.sum()
        assert row["outcome/wrong"] == (~correct).sum()
        assert row["response/length_mean"] == pytest.approx(lengths.mean())
        assert row["response/truncated_fraction"] == pytest.approx(
            result.truncated_PxS[part].mean()
        )
        assert row["entropy"] == pytest.approx(result.entropy_PxS[part].sum() / lengths.sum())


def test_every_kind_is_counted():
    row = make_result(chance=(1.1, 0.3)).summary([1])[0]
    counts = {key: row[key] for key in row if key.startswith("outcome/")}
    assert counts == {
        "outcome/correct": 160,
        **dict.fromkeys((f"outcome/{k}" for k in ("wrong", "no_answer", "timeout", "error")), 0),
    }


def test_every_rate_has_the_interval_of_its_definition():
    result = make_result()
    votes = [["42" if right else "13" for right in row] for row in result.correct_PxS]
    result = dataclasses.replace(result, answers=votes)
    row = result.summary([1, 4])[-1]
    values = {
        "pass@4": pass_at_k(result.correct_PxS, 4),
        "avg@4": result.correct_PxS[:, :4].mean(axis=1),
        "avg@8": result.correct_PxS.mean(axis=1),
        "maj@4": maj_at_k(result.answers, result.correct_PxS, 4),
        "maj@8": maj_at_k(result.answers, result.correct_PxS, 8),
    }
    for name, values_P in values.items():
        found = (row[name], row[f"{name}/low"], row[f"{name}/high"])
        assert found == mean_interval(values_P) and found[1] < found[0] < found[2]


def test_a_set_without_levels_has_one_row():
    result = dataclasses.replace(make_result(), dataset="gsm8k", levels=[""] * 40)
    assert [row["dataset"] for row in result.summary([1])] == ["gsm8k/all"]


def test_scalars_are_flat_and_named_by_dataset():
    rows = make_result().summary([1])
    flat = scalars(rows)
    assert flat["eval/countdown/hard/pass@1"] == rows[1]["pass@1"]
    assert not any(key.endswith(("/step", "/dataset")) for key in flat)


def test_compare_pairs_the_same_problems():
    before = make_result()
    correct_PxS = before.correct_PxS.copy()
    correct_PxS[:20, :2] = True  # the easy ones get better
    after = dataclasses.replace(before, step=50, correct_PxS=correct_PxS)
    easy, hard, whole = compare(before, after, [1, 4])
    assert easy["pass@1/after"] - easy["pass@1/before"] == pytest.approx(
        easy["pass@1/difference"].mean
    )
    assert easy["pass@1/difference"].low > 0
    assert hard["pass@1/difference"] == (0, 0, 0)
    assert whole["n"] == 40


def test_compare_refuses_different_problems():
    after = dataclasses.replace(make_result(step=9), problem_ids=[f"q{n}" for n in range(40)])
    with pytest.raises(UserError, match="different problems"):
        compare(make_result(), after, [1])


def test_bad_shapes_and_empty_sets_are_refused():
    result = make_result()
    with pytest.raises(UserError, match="'countdown' is empty"):
        dataclasses.replace(result, problem_ids=[])
    with pytest.raises(ValueError, match="lengths_PxS"):
        dataclasses.replace(result, lengths_PxS=result.lengths_PxS[:, :2])
    with pytest.raises(ValueError, match="answers"):
        dataclasses.replace(result, answers=[["1"]] * 40)
    with pytest.raises(ValueError, match="levels"):
        dataclasses.replace(result, levels=["easy"])
    with pytest.raises(UserError, match="--eval.k"):
        result.summary([9])
