"""Percentile bootstrap over problems (Efron 1979): the mean on another draw of problems."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from riskpo_jax.errors import UserError

_DRAWS_AT_ONCE = 1 << 21  # 16 MiB of int64 indices


class Interval(NamedTuple):
    """A mean with the ends of its confidence interval."""

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        return self.low > 0 or self.high < 0


def mean_interval(
    values_P: np.ndarray, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Mean of float[P] and its percentile interval at `level`.

    The values of different problems must be independent: average a problem's samples first. Values
    which are all equal give an interval of width zero.

    Raises:
      UserError: there are no values.
      ValueError: `values_P` is not one-dimensional or `level` is not within (0, 1).
    """
    values_P = np.asarray(values_P, dtype=np.float64)
    if values_P.ndim != 1:
        raise ValueError(f"mean_interval needs one value a problem, got shape {values_P.shape}")
    if not 0 < level < 1:
        raise ValueError(f"level must be within (0, 1), got {level}")
    if values_P.size == 0:
        raise UserError("the evaluation set is empty: there is no mean over 0 problems")
    tail = (1 - level) / 2
    low, high = np.quantile(_resampled_means(values_P, resamples, seed), [tail, 1 - tail])
    return Interval(float(values_P.mean()), float(low), float(high))


def paired_difference(
    after_P: np.ndarray,
    before_P: np.ndarray,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> Interval:
    """Mean of `after_P - before_P` and its interval; entry p of both belongs to the same problem.

    Pairing cancels how hard each problem is: the interval is narrower than with two separate sets.

    Raises:
      UserError: the two have different numbers of problems, or none.
    """
    after_P, before_P = np.asarray(after_P, np.float64), np.asarray(before_P, np.float64)
    if after_P.shape != before_P.shape:
        raise UserError(
            f"cannot pair {len(after_P)} problems after with {len(before_P)} before: "
            "evaluate both on one set"
        )
    return mean_interval(after_P - before_P, level, resamples, seed)


def _resampled_means(values_P: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    size = values_P.size
    rows = max(1, _DRAWS_AT_ONCE // size)
    means = [
        values_P[rng.integers(size, size=(min(rows, resamples - start), size))].mean(axis=1)
        for start in range(0, resamples, rows)
    ]
    return np.concatenate(means)
