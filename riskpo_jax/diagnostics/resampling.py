"""Intervals for statistics of sums over independent units: the bootstrap, and the jackknife.

A statistic that is a function of sums over units (questions, bundles) is computed on another draw of the
units by weighting the sums, which costs one matrix product for all draws (Efron 1979). The jackknife is
for statistics of pairs of units, where a unit drawn twice would be paired with itself.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from riskpo_jax.evaluation.bootstrap import Interval

NORMAL_95 = 1.959964  # the standard normal distribution's 97.5% quantile


def bootstrap_weights(units: int, resamples: int, seed: int = 0) -> np.ndarray:
    """float[D, U]: how often each of D draws with replacement has each unit, over U: rows sum to 1."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(units, np.full(units, 1 / units), size=resamples) / units


def percentile_interval(estimate: float, draws_D: np.ndarray, level: float = 0.95) -> Interval:
    """The estimate and the percentile interval of its draws; draws in which it is undefined are NaN."""
    tail = (1 - level) / 2
    if np.isnan(draws_D).all():
        return Interval(float(estimate), float("nan"), float("nan"))
    low, high = np.nanquantile(draws_D, [tail, 1 - tail])
    return Interval(float(estimate), float(low), float(high))


def jackknife_intervals(
    statistic: Callable[[np.ndarray], dict[str, np.ndarray]], units: np.ndarray
) -> dict[str, tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """For each array of `statistic(kept)` its value on all units and the ends of its 95% interval.

    statistic: a function of the int[n] of the units that are kept, n >= 3 at least. The standard error is
    the delete-one jackknife's, `sqrt((N - 1) / N sum_b (x_(-b) - mean)^2)` (Quenouille, Tukey); the
    interval is the normal one.
    """
    whole = statistic(units)
    without = [statistic(np.delete(units, i)) for i in range(len(units))]
    found = {}
    for name, value in whole.items():
        deleted = np.stack([other[name] for other in without])
        spread = deleted - deleted.mean(axis=0, keepdims=True)
        error = np.sqrt((len(units) - 1) / len(units) * (spread**2).sum(axis=0))
        found[name] = value, value - NORMAL_95 * error, value + NORMAL_95 * error
    return found
