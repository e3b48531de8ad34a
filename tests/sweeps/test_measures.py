import numpy as np
import pytest

from riskpo_jax.reporting.run_data import RunData
from riskpo_jax.sweeps import measures
from riskpo_jax.sweeps.measures import Measure


def test_a_training_metric_is_averaged_over_the_last_tenth():
    run = RunData([{"step": n, "x": float(n)} for n in range(1, 101)], {})
    assert Measure("x", "x").of(run) == pytest.approx(np.mean(range(91, 101)))


def test_a_short_run_counts_its_last_step():
    run = RunData([{"step": 1, "x": 1.0}, {"step": 2, "x": 5.0}], {})
    assert Measure("x", "x").of(run) == 5.0


def test_of_an_evaluation_the_last_counts_and_is_scaled():
    run = RunData([], {"d/all": [{"step": 0, "pass@1": 0.1}, {"step": 9, "pass@1": 0.25}]})
    assert Measure("p", "pass@1", "d/all", 100.0).of(run) == 25.0


def test_what_was_not_recorded_is_none():
    run = RunData([{"step": 1, "x": None}], {})
    assert Measure("x", "x").of(run) is None
    assert Measure("p", "pass@1", "d/all").of(run) is None


def test_the_headline_is_of_datasets_as_a_whole_and_of_the_ends_of_k():
    shown = measures.headline(["a/easy", "a/all", "b/all"], [1, 8, 64])
    assert [(m.dataset, m.key) for m in shown] == [
        ("a/all", "pass@1"),
        ("a/all", "pass@64"),
        ("b/all", "pass@1"),
        ("b/all", "pass@64"),
        (None, "policy/entropy"),
    ]


def test_without_evaluations_the_headline_is_the_entropy():
    assert measures.headline([], []) == [measures.ENTROPY]
