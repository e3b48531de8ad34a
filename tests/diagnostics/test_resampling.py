"""Intervals: the bootstrap by weights, and the jackknife."""

import numpy as np
import pytest

from riskpo_jax.diagnostics.resampling import (
    bootstrap_weights,
    jackknife_intervals,
    percentile_interval,
)


def test_weights_are_those_of_draws_with_replacement():
    weights = bootstrap_weights(7, 4000)
    assert weights.shape == (4000, 7)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights * 7, np.round(weights * 7))
    # A multinomial's variance: U (1/U) (1 - 1/U), of counts over U.
    np.testing.assert_allclose(weights.var(axis=0), (1 - 1 / 7) / 49, rtol=0.15)


def test_the_interval_of_a_mean_covers_it_as_often_as_it_says():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(200):
        values = rng.normal(3, 2, 40)
        interval = percentile_interval(values.mean(), bootstrap_weights(40, 400) @ values)
        covered += interval.low <= 3 <= interval.high
    assert 0.88 <= covered / 200 <= 0.99


def test_undefined_draws_do_not_count():
    draws = np.array([1.0, np.nan, 2.0, 3.0])
    assert percentile_interval(2.0, draws, level=0.999).low == pytest.approx(1, abs=0.01)
    nothing = percentile_interval(2.0, np.full(3, np.nan))
    assert np.isnan([nothing.low, nothing.high]).all() and not nothing.excludes_zero


def test_the_jackknife_of_a_mean_is_the_standard_error():
    values = np.random.default_rng(1).normal(size=(30, 2))
    found = jackknife_intervals(lambda kept: {"mean": values[kept].mean(axis=0)}, np.arange(30))
    mean, low, high = found["mean"]
    np.testing.assert_allclose(mean, values.mean(axis=0))
    error = values.std(axis=0, ddof=1) / np.sqrt(30)
    np.testing.assert_allclose((high - low) / 2, 1.959964 * error)
