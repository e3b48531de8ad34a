"""The schedule's values, AdamW by its formulas, and updates that refuse non-finite gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from riskpo_jax.training.optimizer import adamw, apply_finite, learning_rate

KEY = jax.random.key(0)
HYPER = {"b1": 0.9, "b2": 0.99, "eps": 1e-8, "weight_decay": 0.1, "max_grad_norm": 1.0}


@pytest.mark.parametrize("warmup", [0, 4])
def test_warm_up_is_linear_and_starts_above_zero(warmup):
    rate = learning_rate(0.3, warmup, "constant", total_updates=20)
    for update in range(20):
        expected = 0.3 * min(1, (update + 1) / (warmup + 1))
        assert float(rate(update)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("warmup", [0, 4])
def test_cosine_falls_from_the_peak_to_zero_at_the_last_update(warmup):
    rate = learning_rate(0.3, warmup, "cosine", total_updates=20)
    for update in range(warmup, 25):
        progress = min(1, (update - warmup) / (20 - warmup))
        expected = 0.15 * (1 + np.cos(np.pi * progress))
        assert float(rate(update)) == pytest.approx(expected, abs=1e-7)


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_a_run_shorter_than_its_warm_up_still_has_a_schedule(schedule):
    rate = learning_rate(0.3, 10, schedule, total_updates=3)
    assert [float(rate(i)) for i in range(3)] == pytest.approx([0.3 * k / 11 for k in (1, 2, 3)])


def params_and_gradients():
    rng = np.random.default_rng(0)
    shapes = {"q": (2, 3), "q_bias": (3,), "scale": (4,), "embedding": (5, 2)}
    draw = {k: rng.standard_normal((4, *s)).astype(np.float32) for k, s in shapes.items()}
    params = {"layers": {k: v[0] for k, v in draw.items()}}
    return params, [{"layers": {k: v[i] for k, v in draw.items()}} for i in (1, 2, 3)]


def test_three_updates_follow_the_formulas():
    """Clip the whole gradient to norm 1, then AdamW with decay on matrices only (1711.05101)."""
    params, gradients = params_and_gradients()
    rate = learning_rate(0.05, 1, "constant", 3)
    optimizer = adamw(rate, **HYPER)
    state, found = optimizer.init(params), params
    update = jax.jit(partial(apply_finite, optimizer))
    expected = {k: np.float64(v) for k, v in params["layers"].items()}
    m = {k: np.zeros_like(v) for k, v in expected.items()}
    v = {k: np.zeros_like(v) for k, v in expected.items()}
    for t, whole in enumerate(gradients, start=1):
        found, state, metrics = update(whole, state, found, KEY)
        norm = np.sqrt(sum((np.float64(g) ** 2).sum() for g in whole["layers"].values()))
        assert norm > 1
        assert float(metrics["grad/norm"]) == pytest.approx(norm, rel=1e-6)  # before clipping
        assert float(metrics["grad/skipped"]) == 0
        for name, gradient in whole["layers"].items():
            g = np.float64(gradient) / norm
            m[name] = 0.9 * m[name] + 0.1 * g
            v[name] = 0.99 * v[name] + 0.01 * g**2
            step = m[name] / (1 - 0.9**t) / (np.sqrt(v[name] / (1 - 0.99**t)) + 1e-8)
            decay = 0.1 if name in ("q", "embedding") else 0.0
            rate_t = 0.025 if t == 1 else 0.05
            expected[name] -= rate_t * (step + decay * expected[name])
    for name, value in found["layers"].items():
        np.testing.assert_allclose(value, expected[name], atol=2e-6)


def test_every_matrix_of_the_decoder_decays_and_nothing_else(tiny_params):
    optimizer = adamw(optax.constant_schedule(1.0), **HYPER)
    params = jax.tree.map(jnp.ones_like, tiny_params)
    zeros = jax.tree.map(jnp.zeros_like, params)
    update = jax.jit(lambda g, p: apply_finite(optimizer, g, optimizer.init(p), p, KEY))
    after, _, _ = update(zeros, params)
    decayed = {
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, leaf in jax.tree_util.tree_leaves_with_path(after)
        if not (leaf == 1).all()
    }
    attention = {f"layers/attention/{name}" for name in "qkvo"}
    mlp = {f"layers/mlp/{name}" for name in ("gate", "up", "down")}
    assert decayed == {"embedding", "head"} | attention | mlp


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_gradient_that_is_not_finite_changes_nothing(bad):
    params, gradients = params_and_gradients()
    optimizer = adamw(optax.constant_schedule(0.1), **HYPER)
    _, state, _ = apply_finite(optimizer, gradients[0], optimizer.init(params), params, KEY)
    gradients[1]["layers"]["scale"][2] = bad
    after = apply_finite(optimizer, gradients[1], state, params, KEY)
    assert not np.isfinite(after[2]["grad/norm"]) and float(after[2]["grad/skipped"]) == 1
    for a, b in zip(jax.tree.leaves(after[:2]), jax.tree.leaves((params, state)), strict=True):
        assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


@pytest.mark.filterwarnings("error::DeprecationWarning")
def test_no_deprecated_function_is_called():
    params, gradients = params_and_gradients()
    optimizer = adamw(optax.constant_schedule(0.1), **HYPER)
    apply_finite(optimizer, gradients[0], optimizer.init(params), params, KEY)
