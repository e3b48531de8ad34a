"""Where a run begins: which weights are read, and which are not; and its evaluation sets on the way."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from riskpo_jax.evaluation import store
from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.models import lora
from riskpo_jax.models.lora import Lora
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training import setup, weights
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.training.loop import begin, evaluate_if_due, mean_pass_at_1
from riskpo_jax.training.setup import make_optimizer


@pytest.fixture
def start(make_config, tiny_model, tiny_params, monkeypatch, tmp_path):
    """start(**changes) -> what `begin` returns, as a new process would find things, and what was read."""

    def start(**changes):
        config, read = make_config(model__init="random", **changes), []
        model = tiny_model.clone(lora=Lora(2, 4.0) if config.lora.rank else None)
        mesh = make_mesh()
        monkeypatch.setattr(weights, "load_base", lambda *_: read.append("base") or tiny_params)
        load_adapters = weights.load_adapters
        monkeypatch.setattr(
            weights,
            "load_adapters",
            lambda *parts: read.append("adapters") or load_adapters(*parts),
        )
        run = SimpleNamespace(config=config, policy=SimpleNamespace(model=model), mesh=mesh)
        optimizer = make_optimizer(config)
        checkpoints = Checkpoints(tmp_path / "checkpoints")
        found = begin(run, optimizer, checkpoints)
        monkeypatch.undo()
        return *found, read, checkpoints

    return start


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


@pytest.mark.parametrize(
    ("changes", "at_first", "resumed"),
    [
        ({}, ["base"], []),
        ({"algorithm__kl_coef": 0.1}, ["base"], ["base"]),
        ({"algorithm__kl_coef": 0.1, "train__stage": "supervised"}, ["base"], []),
        ({"lora__rank": 2}, ["base", "adapters"], ["base"]),
        ({"lora__rank": 2, "algorithm__kl_coef": 0.1},) + (["base", "adapters"],) * 2,
    ],
    ids=["model", "model-kl", "supervised", "adapters", "adapters-kl"],
)
def test_weights_are_read_where_they_are_used(start, tiny_params, changes, at_first, resumed):
    frozen, state, reference, read, checkpoints = start(**changes)
    assert read == at_first
    initial = jax.device_get(state.params)
    assert_equal(*((frozen, tiny_params) if "lora__rank" in changes else (initial, tiny_params)))
    moved = state.replace(params=jax.tree.map(lambda x: x + 1, state.params), step=state.step + 3)
    checkpoints.save(moved, 3, None)
    checkpoints.close()

    frozen_again, again, reference_again, read, checkpoints = start(**changes)
    checkpoints.close()
    assert read == resumed
    assert_equal(again, moved)
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(moved), strict=True):
        assert a.sharding == b.sharding
    assert_equal(frozen_again, frozen)
    assert_equal(reference_again, reference)
    if "algorithm__kl_coef" in changes and "train__stage" not in changes:
        assert_equal(reference, initial)
    else:
        assert reference is None
    assert lora.join(frozen, again.params).keys() == tiny_params.keys()


def test_the_reference_outlives_the_donated_state(start):
    _, state, reference, _, checkpoints = start(algorithm__kl_coef=0.1)
    checkpoints.close()
    expected = jax.device_get(state.params)
    jax.jit(lambda s: jax.tree.map(lambda x: x + 1, s), donate_argnums=0)(state)
    assert_equal(reference, expected)


def evaluated(dataset, solved, step=4, samples=2):
    """`solved` lists how many samples of each problem are correct."""
    correct_PxS = np.arange(samples) < np.array(solved)[:, None]
    return EvalResult(
        dataset=dataset,
        step=step,
        problem_ids=[f"{dataset}-{p}" for p in range(len(solved))],
        levels=[""] * len(solved),
        correct_PxS=correct_PxS,
        answers=[["1"] * samples] * len(solved),
        outcomes=[["correct" if c else "wrong" for c in row] for row in correct_PxS],
        lengths_PxS=np.ones(correct_PxS.shape, int),
        truncated_PxS=np.zeros(correct_PxS.shape, bool),
        entropy_PxS=np.ones(correct_PxS.shape),
    )


@pytest.fixture
def run_with_sets(make_config, monkeypatch, tmp_path):
    """A run with two sets -> (run, files, progress, the sets that were sampled, the rows written)."""
    results = {"b": evaluated("b", [2, 2, 0, 0]), "a/x": evaluated("a/x", [1])}
    sampled, rows = [], []

    class Evaluator:
        def evaluate(self, params, eval_set, step):
            sampled.append(eval_set.name)
            return results[eval_set.name]

    monkeypatch.setattr(setup, "make_evaluator", lambda *_: Evaluator())
    run = SimpleNamespace(
        config=make_config(eval__every=4, train__steps=8),
        directory=SimpleNamespace(evaluations=tmp_path),
        eval_sets=[SimpleNamespace(name=name, problems=[0]) for name in results],
        policy=None,
        sampler=None,
        grader=None,
    )
    writer = SimpleNamespace(write=lambda step, row: rows.append((step, row)))
    files = SimpleNamespace(evals=writer, curves=SimpleNamespace(write=lambda *_: None))
    return run, files, SimpleNamespace(print=lambda _: None), sampled, rows


def test_every_set_is_evaluated_once_and_recorded(run_with_sets, tmp_path):
    run, files, progress, sampled, rows = run_with_sets
    state = SimpleNamespace(params={}, key=None)
    assert evaluate_if_due(run, {}, state, 3, files, progress) == [] and not rows
    results = evaluate_if_due(run, {}, state, 4, files, progress)
    assert sampled == ["b", "a/x"] == [result.dataset for result in results]
    assert [(step, row["dataset"]) for step, row in rows] == [(4, "b/all"), (4, "a/x/all")]
    assert mean_pass_at_1(results) == 0.5  # of 0.5 and 0.5: a set of 4 problems and one of 1

    # A run that was killed between the two reads the first back and samples the second.
    store.path_of(tmp_path, 4, "a/x").unlink()
    again = evaluate_if_due(run, {}, state, 4, files, progress)
    assert sampled == ["b", "a/x", "a/x"] and [row for _, row in rows[2:]] == [
        row for _, row in rows[:2]
    ]
    assert mean_pass_at_1(again) == 0.5


def test_every_set_counts_the_same_for_the_best_checkpoint():
    assert mean_pass_at_1([evaluated("a", [2] * 9), evaluated("b", [0])]) == 0.5
