"""The estimators against enumeration of subsets, majority voting against its definition."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.metrics import avg_at_k, maj_at_k, pass_at_k

correct_arrays = hnp.arrays(bool, st.tuples(st.integers(1, 5), st.integers(1, 7)))
quick = settings(deadline=None, max_examples=50)


@quick
@given(correct_arrays, st.data())
def test_pass_at_k_is_the_mean_over_all_subsets(correct_PxS, data):
    k = data.draw(st.integers(1, correct_PxS.shape[1]))
    oracle = [
        np.mean([any(subset) for subset in itertools.combinations(row, k)]) for row in correct_PxS
    ]
    np.testing.assert_allclose(pass_at_k(correct_PxS, k), oracle, atol=1e-12)


@quick
@given(correct_arrays)
def test_pass_at_k_grows_from_the_mean_to_any(correct_PxS):
    samples = correct_PxS.shape[1]
    by_k = np.stack([pass_at_k(correct_PxS, k) for k in range(1, samples + 1)])
    assert (np.diff(by_k, axis=0) >= -1e-12).all()
    np.testing.assert_allclose(by_k[0], correct_PxS.mean(axis=1), atol=1e-12)
    np.testing.assert_array_equal(by_k[-1], correct_PxS.any(axis=1))


def test_pass_at_k_is_stable_at_many_samples():
    correct_PxS = np.zeros((3, 4096), bool)
    correct_PxS[1, :1] = True
    correct_PxS[2] = True
    np.testing.assert_allclose(pass_at_k(correct_PxS, 2048), [0.0, 0.5, 1.0], atol=1e-12)


def test_pass_at_k_is_unbiased():
    rng = np.random.default_rng(0)
    chance, k = 0.2, 4
    estimates = pass_at_k(rng.random((20_000, 8)) < chance, k)
    error = estimates.std() / np.sqrt(len(estimates))
    assert abs(estimates.mean() - (1 - (1 - chance) ** k)) < 4 * error


def test_avg_at_k_looks_at_the_first_k():
    correct_PxS = np.array([[True, False, False, True], [False, True, True, True]])
    np.testing.assert_allclose(avg_at_k(correct_PxS, 2), [0.5, 0.5])
    np.testing.assert_allclose(avg_at_k(correct_PxS, 4), [0.5, 0.75])


@pytest.mark.parametrize(
    ("answers", "right", "k", "expected"),
    [
        (["a", "b", "b"], "b", 3, 1),
        (["a", "b", "b"], "b", 1, 0),  # only the first k vote
        (["a", "b", "b", "a"], "a", 4, 1),  # a tie goes to the first
        (["a", "b", "b", "a"], "b", 4, 0),
        (["", "", "b"], "b", 3, 1),  # no answer, no vote
        (["", "", ""], "", 3, 0),
    ],
)
def test_maj_at_k(answers, right, k, expected):
    correct_PxS = np.array([[answer == right for answer in answers]])
    assert maj_at_k([answers], correct_PxS, k).tolist() == [expected]


@quick
@given(st.lists(st.sampled_from(["", "1", "2", "3"]), min_size=1, max_size=9), st.data())
def test_maj_at_k_is_right_only_with_a_plurality(answers, data):
    gold = data.draw(st.sampled_from(["1", "2", "3"]))
    correct_PxS = np.array([[answer == gold for answer in answers]])
    counts = {value: answers.count(value) for value in ("1", "2", "3")}
    others = max(count for value, count in counts.items() if value != gold)
    verdict = maj_at_k([answers], correct_PxS, len(answers))[0]
    if counts[gold] != others:
        assert verdict == (counts[gold] > others)
    elif counts[gold] == 0:
        assert verdict == 0


@pytest.mark.parametrize("k", [0, -1, 4])
def test_k_outside_the_samples_names_the_flags(k):
    correct_PxS = np.zeros((2, 3), bool)
    for metric in (
        lambda: pass_at_k(correct_PxS, k),
        lambda: avg_at_k(correct_PxS, k),
        lambda: maj_at_k([["a"] * 3] * 2, correct_PxS, k),
    ):
        with pytest.raises(UserError, match=r"--eval\.k.*--eval\.samples = 3"):
            metric()
