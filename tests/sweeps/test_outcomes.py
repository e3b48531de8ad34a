import json

import numpy as np

from riskpo_jax.reporting.run_data import RunData
from riskpo_jax.sweeps.measures import ENTROPY, Measure
from riskpo_jax.sweeps.outcomes import (
    curves_of,
    evaluated_datasets,
    evaluated_ks,
    load_outcomes,
    values_by_seed,
)


def test_folders_are_read(tmp_path):
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "policy/entropy": 0.5}) + "\n")
    outcomes = load_outcomes({"a": {3: tmp_path}, "b": {}})
    assert values_by_seed(ENTROPY, outcomes["a"]) == {3: 0.5}
    assert outcomes["b"] == {}


def test_datasets_and_ks_of_all_runs(outcomes):
    assert evaluated_datasets(outcomes) == ["toy/easy", "toy/all"]
    assert evaluated_ks(outcomes) == [1, 4]


def test_a_seed_without_the_measure_is_left_out(outcomes):
    runs = dict(outcomes["base"]) | {7: RunData([], {})}
    assert set(values_by_seed(ENTROPY, runs)) == {0, 1, 2}


def test_curves_share_the_steps_that_all_runs_have():
    short = RunData([{"step": n, "x": 1.0} for n in (1, 2)], {})
    long = RunData([{"step": n, "x": 3.0} for n in (1, 2, 3)], {})
    steps, values = curves_of(Measure("x", "x", scale=2.0), [short, long])
    assert steps.tolist() == [1, 2]
    assert np.array_equal(values, [[2, 2], [6, 6]])


def test_no_curve_without_runs_or_where_one_lacks_it(outcomes):
    assert curves_of(ENTROPY, []) is None
    assert curves_of(ENTROPY, [*outcomes["base"].values(), RunData([], {})]) is None
