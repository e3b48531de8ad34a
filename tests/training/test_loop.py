"""Where a run begins: which weights are read, and which are not because nothing would use them."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from riskpo_jax.models import lora
from riskpo_jax.models.lora import Lora
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training import weights
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.training.loop import begin
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
