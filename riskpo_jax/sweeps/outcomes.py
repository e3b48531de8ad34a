"""What the runs of a sweep recorded, and the numbers that are read off each."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from riskpo_jax.reporting.run_data import RunData, Series

Outcomes = Mapping[str, Mapping[int, RunData]]
"""Variant -> seed -> its run."""

_LAST = 0.1  # of a run's steps, over which a training metric is averaged


@dataclass(frozen=True)
class Measure:
    """One number of a run.

    Attributes:
      label: heading of its column. key: of metrics.jsonl, or of eval.jsonl where `dataset` is given.
      scale: factor for display, 100 for percent.
    """

    label: str
    key: str
    dataset: str | None = None
    scale: float = 1.0

    def of(self, run: RunData) -> float | None:
        """Of the last evaluation, or the mean over the last tenth of the steps; None if not there."""
        if self.dataset is not None:
            rows = run.evals.get(self.dataset, [])
            value = rows[-1].get(self.key) if rows else None
            return None if value is None else self.scale * value
        series = run.series(self.key)
        if series is None:
            return None
        count = max(1, round(_LAST * len(series.values)))
        return self.scale * float(series.values[-count:].mean())


def load_outcomes(paths: Mapping[str, Mapping[int, Path]]) -> Outcomes:
    """Reads the folders of finished runs: variant -> seed -> folder."""
    return {
        variant: {seed: RunData.load(path) for seed, path in runs.items()}
        for variant, runs in paths.items()
    }


def evaluated_datasets(outcomes: Outcomes) -> list[str]:
    """Datasets and levels of eval.jsonl, such as countdown/easy, in their order of occurrence."""
    return list(dict.fromkeys(name for run in _runs(outcomes) for name in run.evals))


def pass_ks(outcomes: Outcomes) -> list[int]:
    """Every k of which pass@k was recorded, ascending."""
    keys = {
        key for run in _runs(outcomes) for rows in run.evals.values() for row in rows for key in row
    }
    return sorted(int(found[1]) for key in keys if (found := re.fullmatch(r"pass@(\d+)", key)))


def values_by_seed(measure: Measure, runs: Mapping[int, RunData]) -> dict[int, float]:
    """Seed -> the measure, of the runs that have it."""
    found = {seed: measure.of(run) for seed, run in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def mean_curve(runs: Sequence[RunData], key: str, dataset: str | None = None) -> tuple | None:
    """(steps[T], values[S, T]) of the runs' smoothed series at the steps that all have; None without."""
    curves = []
    for run in runs:
        rows = run.metrics if dataset is None else run.evals.get(dataset, [])
        if (series := Series.of(rows, key)) is None:
            return None
        smooth = series.smoothed()
        curves.append(dict(zip(smooth.steps, smooth.values, strict=True)))
    if not curves:
        return None
    steps = sorted(set.intersection(*map(set, curves)))
    return np.array(steps), np.array([[curve[step] for step in steps] for curve in curves])


def _runs(outcomes: Outcomes) -> list[RunData]:
    return [run for runs in outcomes.values() for run in runs.values()]
