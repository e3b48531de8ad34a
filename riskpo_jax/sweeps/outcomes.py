"""What the runs of a sweep recorded, variant by variant and seed by seed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from riskpo_jax.reporting.run_data import RunData, pass_ks
from riskpo_jax.sweeps.measures import Measure

Outcomes = Mapping[str, Mapping[int, RunData]]
"""Variant -> seed -> its run."""


def load_outcomes(paths: Mapping[str, Mapping[int, Path]]) -> Outcomes:
    """Reads the folders of finished runs: variant -> seed -> folder."""
    return {
        variant: {seed: RunData.load(path) for seed, path in runs.items()}
        for variant, runs in paths.items()
    }


def evaluated_datasets(outcomes: Outcomes) -> list[str]:
    """Datasets and levels of eval.jsonl, such as countdown/easy, in their order of occurrence."""
    return list(dict.fromkeys(name for run in _runs(outcomes) for name in run.evals))


def evaluated_ks(outcomes: Outcomes) -> list[int]:
    """Every k of which pass@k was recorded, ascending."""
    return pass_ks(row for run in _runs(outcomes) for rows in run.evals.values() for row in rows)


def values_by_seed(measure: Measure, runs: Mapping[int, RunData]) -> dict[int, float]:
    """Seed -> the measure, of the runs that have it."""
    found = {seed: measure.of(run) for seed, run in runs.items()}
    return {seed: value for seed, value in found.items() if value is not None}


def curves_of(measure: Measure, runs: Sequence[RunData]) -> tuple[np.ndarray, np.ndarray] | None:
    """(steps[T], values[S, T]): a smoothed curve a run at the steps that all have; None if one has none."""
    curves = []
    for run in runs:
        if (series := measure.series(run)) is None:
            return None
        smooth = series.smoothed()
        curves.append(dict(zip(smooth.steps, smooth.values, strict=True)))
    if not curves:
        return None
    steps = sorted(set.intersection(*map(set, curves)))
    return np.array(steps), np.array([[curve[step] for step in steps] for curve in curves])


def _runs(outcomes: Outcomes) -> list[RunData]:
    return [run for runs in outcomes.values() for run in runs.values()]
