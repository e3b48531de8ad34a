"""Intervals cover what they claim, on distributions whose mean is known."""

import numpy as np
import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.evaluation import bootstrap
from riskpo_jax.evaluation.bootstrap import mean_interval, paired_difference


def test_the_interval_covers_the_true_mean_as_often_as_it_says():
    rng = np.random.default_rng(1)
    sets = rng.beta(0.5, 1.0, size=(300, 60))  # mean 1/3; skewed as pass rates are
    intervals = [mean_interval(values, resamples=1000, seed=n) for n, values in enumerate(sets)]
    coverage = np.mean([i.low <= 1 / 3 <= i.high for i in intervals])
    assert 0.90 <= coverage <= 0.99


def test_a_higher_level_is_wider_and_an_interval_holds_its_mean():
    values = np.random.default_rng(0).random(50)
    wide, narrow = mean_interval(values, level=0.99), mean_interval(values, level=0.5)
    assert wide.low < narrow.low < values.mean() < narrow.high < wide.high
    assert narrow.mean == pytest.approx(values.mean())


def test_width_agrees_with_the_standard_error():
    values = np.random.default_rng(0).normal(size=400)
    interval = mean_interval(values)
    expected = 2 * 1.96 * values.std() / np.sqrt(400)
    assert interval.high - interval.low == pytest.approx(expected, rel=0.05)


def test_pairing_is_narrower_than_two_separate_sets():
    rng = np.random.default_rng(0)
    difficulty = rng.random(200)
    before, after = (
        difficulty + rng.normal(0, 0.05, 200),
        difficulty + 0.1 + rng.normal(0, 0.05, 200),
    )
    paired = paired_difference(after, before)
    separate = paired_difference(after, rng.permutation(before))
    assert paired.mean == pytest.approx(separate.mean)
    assert paired.high - paired.low < 0.5 * (separate.high - separate.low)
    assert paired.excludes_zero and paired.low < 0.1 < paired.high
    assert not paired_difference(before, before).excludes_zero


def test_the_seed_alone_decides_not_the_memory_bound(monkeypatch):
    values = np.random.default_rng(0).random(40)
    once = mean_interval(values, resamples=200, seed=3)
    assert mean_interval(values, resamples=200, seed=4) != once
    for bound in (7, 1000):  # less than one resample at once, and 25
        monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", bound)
        np.testing.assert_allclose(mean_interval(values, resamples=200, seed=3), once, rtol=1e-12)


def test_bad_input():
    with pytest.raises(UserError, match="empty"):
        mean_interval(np.zeros(0))
    with pytest.raises(UserError, match="3 problems after with 2 before"):
        paired_difference(np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match="level"):
        mean_interval(np.zeros(3), level=95)
    with pytest.raises(ValueError, match="shape"):
        mean_interval(np.zeros((3, 2)))
