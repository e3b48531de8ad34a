"""Intervals over a few seeds.

The percentile bootstrap is what the field reports. Over 3 to 5 seeds it is too narrow: it resamples what
little there is, and of normal values it covers the mean in about 75% (3 seeds) to 83% (5) of the cases
instead of 95% (tests/sweeps/test_statistics.py measures it). Student's t interval covers 95% of them, so
a difference counts as clear where that one excludes zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from riskpo_jax.evaluation.bootstrap import Interval, mean_interval


@dataclass(frozen=True)
class Difference:
    """A mean difference over `seeds` pairs, its bootstrap interval, and Student's (None for one pair)."""

    bootstrap: Interval
    student: Interval | None
    seeds: int

    @property
    def is_clear(self) -> bool:
        """Two pairs are too few for any claim."""
        return self.seeds > 2 and self.student.excludes_zero


def over_seeds(values: Sequence[float]) -> Interval:
    """Mean and 95% bootstrap interval of one value a seed."""
    return mean_interval(np.array(list(values)))


def band(values_SxT: np.ndarray, resamples: int = 2_000) -> tuple[np.ndarray, np.ndarray]:
    """The ends [T] of the bootstrap interval of the mean over S seeds, at each of T points."""
    seeds = len(values_SxT)
    draws_RxS = np.random.default_rng(0).integers(seeds, size=(resamples, seeds))
    return tuple(np.quantile(values_SxT[draws_RxS].mean(axis=1), [0.025, 0.975], axis=0))


def student_interval(values: Sequence[float], level: float = 0.95) -> Interval | None:
    """Mean and Student's t interval of independent normal values; None for fewer than two."""
    values = np.asarray(values, np.float64)
    if values.size < 2:
        return None
    mean, spread = values.mean(), values.std(ddof=1) / np.sqrt(values.size)
    reach = stats.t.ppf((1 + level) / 2, values.size - 1) * spread
    return Interval(float(mean), float(mean - reach), float(mean + reach))


def paired_by_seed(values: Mapping[int, float], baseline: Mapping[int, float]) -> Difference | None:
    """Of the seeds that both have; None where there is none.

    Pairing cancels what a seed decides for both: the problems and their order. The evaluation's problems
    are commonly the same for all seeds, and no interval over seeds speaks of others.
    """
    seeds = sorted(set(values) & set(baseline))
    if not seeds:
        return None
    differences = [values[seed] - baseline[seed] for seed in seeds]
    return Difference(over_seeds(differences), student_interval(differences), len(seeds))
