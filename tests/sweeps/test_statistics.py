import numpy as np
import pytest
from scipy import stats

from riskpo_jax.sweeps.statistics import (
    band,
    over_seeds,
    paired_by_seed,
    student_interval,
)


def test_student_interval_is_that_of_scipy():
    values = np.random.default_rng(0).normal(2, 3, size=5)
    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values))
    assert student_interval(values) == pytest.approx((values.mean(), low, high))


def test_one_value_has_no_student_interval():
    assert student_interval([1.0]) is None


@pytest.mark.parametrize("seeds, bootstrap_covers", [(3, 0.75), (5, 0.83)])
def test_coverage_over_few_seeds_is_what_the_docstring_says(seeds, bootstrap_covers):
    """Of the mean, 0, of normal values."""
    draws = np.random.default_rng(1).normal(size=(1_000, seeds))
    student = [student_interval(row) for row in draws]
    assert np.mean([x.low < 0 < x.high for x in student]) == pytest.approx(0.95, abs=0.02)
    low, high = band(draws.T, resamples=500)
    assert np.mean((low < 0) & (high > 0)) == pytest.approx(bootstrap_covers, abs=0.035)


def test_the_band_is_the_interval_at_each_point():
    values_SxT = np.random.default_rng(2).normal(size=(5, 3))
    low, high = band(values_SxT, resamples=20_000)
    for t in range(3):
        expected = over_seeds(values_SxT[:, t])
        assert (low[t], high[t]) == pytest.approx(expected[1:], abs=0.03)


def test_pairs_are_the_seeds_that_both_have():
    found = paired_by_seed({0: 1.5, 1: 2.5, 5: 9.0}, {1: 2.0, 0: 1.0, 4: 7.0})
    assert found.seeds == 2 and found.bootstrap.mean == 0.5
    assert paired_by_seed({0: 1.0}, {1: 1.0}) is None


def test_what_the_seed_decides_for_both_cancels():
    rng = np.random.default_rng(3)
    luck = rng.normal(0, 10, size=5)
    base = dict(enumerate(luck))
    ours = {seed: value + 1 + rng.normal(0, 0.1) for seed, value in base.items()}
    assert paired_by_seed(ours, base).is_clear
    assert not student_interval([ours[s] for s in ours]).low > np.mean(luck)


def test_two_pairs_are_too_few_for_a_claim():
    assert not paired_by_seed({0: 1.0, 1: 1.0}, {0: 0.0, 1: 0.0}).is_clear
    assert paired_by_seed({0: 1.0, 1: 1.1, 2: 1.0}, {0: 0.0, 1: 0.0, 2: 0.0}).is_clear
