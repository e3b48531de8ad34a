"""Stochastic rounding: exact on average, and why AdamW at small learning rates needs it."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from riskpo_jax.training.optimizer import adamw, apply_finite
from riskpo_jax.training.rounding import round_like, stochastic_round, with_moment_dtype

BFLOAT16, FLOAT32 = jnp.dtype("bfloat16"), jnp.dtype("float32")
EVERY = np.arange(2**16, dtype=np.uint16)  # every bfloat16 there is, and every draw of the noise
NUMBERS = [1.0, -1.0, 1 / 3, 2.7e-4, -5.1e-21, 1e-39, 1.0 + 2.0**-23, 2.0 - 2.0**-24, 3e38]


def to_bfloat16(key, x):
    return stochastic_round(key, jnp.asarray(x, jnp.float32), BFLOAT16)


@pytest.mark.parametrize("seed", range(3))
def test_what_bfloat16_can_hold_stays(seed):
    every = EVERY.view(BFLOAT16).astype(np.float32)
    rounded = np.asarray(to_bfloat16(jax.random.key(seed), every))
    nan = np.isnan(every)
    np.testing.assert_array_equal(rounded.view(np.uint16)[~nan], EVERY[~nan])
    assert np.isnan(np.float32(rounded[nan])).all()


@pytest.mark.parametrize("x", NUMBERS)
def test_the_mean_over_all_draws_is_the_number_itself(monkeypatch, x):
    """One of the two neighbours, as often as makes the expectation exact: nothing is estimated."""
    monkeypatch.setattr(jax.random, "bits", lambda key, shape, dtype: jnp.asarray(EVERY))
    x = np.full(2**16, x, np.float32)
    rounded = np.asarray(to_bfloat16(jax.random.key(0), x), np.float64)
    assert rounded.mean() == np.float64(x[0])
    low, high = rounded.min(), rounded.max()
    bits = np.array([low, high], np.float32).view(np.uint32) >> 16
    assert set(rounded) <= {low, high} and abs(int(bits[1]) - int(bits[0])) <= 1


def test_draws_differ_between_elements_leaves_and_keys():
    third = jnp.full(1000, 1 / 3, jnp.float32)
    tree, like = (
        {"a": third, "b": third},
        {"a": third.astype(BFLOAT16), "b": third.astype(BFLOAT16)},
    )
    one, two = (round_like(jax.random.key(seed), tree, like) for seed in (0, 1))
    flips = [np.asarray(x == x.min()) for x in (one["a"], one["b"], two["a"])]
    for up in flips:
        assert 0.2 < up.mean() < 0.8
    for i, j in ((0, 1), (0, 2)):
        assert 0.3 < (flips[i] == flips[j]).mean() < 0.7
    again = round_like(jax.random.key(0), tree, like)
    jax.tree.map(np.testing.assert_array_equal, one, again)


def test_numbers_at_the_edge():
    finite = np.float32([3.4e38, -3.4e38, 3.4028235e38, -3.4028235e38])  # beyond bfloat16's largest
    payload = np.uint32([0x7F800001, 0xFFFFFFFF, 0xFF800001]).view(
        np.float32
    )  # NaN by low bits only
    for seed in range(20):
        key = jax.random.key(seed)
        assert np.isfinite(np.float32(to_bfloat16(key, finite))).all()
        assert np.isnan(np.float32(to_bfloat16(key, payload))).all()
        infinite = np.float32([np.inf, -np.inf])
        np.testing.assert_array_equal(np.float32(to_bfloat16(key, infinite)), infinite)


def test_only_from_float32_to_bfloat16():
    assert (stochastic_round(None, jnp.float32(1 / 3), FLOAT32) == jnp.float32(1 / 3)).all()
    with pytest.raises(TypeError, match="not float32 to float16"):
        stochastic_round(jax.random.key(0), jnp.float32(1), jnp.dtype("float16"))


def small_rate_adamw(b2=0.99):
    return adamw(
        optax.constant_schedule(1e-6), b1=0.9, b2=b2, eps=1e-8, weight_decay=0.0, max_grad_norm=1e9
    )


def descend(optimizer, params, gradients, updates):
    """(params, opt_state) after `updates` updates by the same gradients."""

    def one(carry, key):
        params, opt_state = carry
        return apply_finite(optimizer, gradients, opt_state, params, key)[:2], None

    keys = jax.random.split(jax.random.key(7), updates)
    run = jax.jit(lambda params: jax.lax.scan(one, (params, optimizer.init(params)), keys)[0])
    return run(params)


def descend_to_nearest(optimizer, params, gradients, updates):
    """The usual way: float32 moments, and `optax.apply_updates`, which rounds to nearest."""

    def one(carry, _):
        params, opt_state = carry
        changes, opt_state = optimizer.update(gradients, opt_state, params)
        return (optax.apply_updates(params, changes), opt_state), None

    wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    run = jax.jit(lambda carry: jax.lax.scan(one, carry, length=updates)[0])
    return run((params, optimizer.init(wide)))


@pytest.mark.parametrize("moment_dtype", ["float32", "bfloat16"])
def test_at_a_learning_rate_of_1e_6_only_stochastic_rounding_moves(moment_dtype):
    """100 updates of 1e-6 on bfloat16 numbers that are 1.2e-4 apart: Adam moves by rate x sign(g)."""
    size, updates = 2**14, 100
    sign = np.where(np.arange(size) % 2, 1.0, -1.0).astype(np.float32)
    params = {"w": jnp.full(size, 0.02, BFLOAT16)}
    gradients = {"w": 1e-3 * sign}
    inner = small_rate_adamw()

    nearest, _ = descend_to_nearest(inner, params, gradients, updates)
    np.testing.assert_array_equal(nearest["w"], params["w"])  # not one update was kept

    optimizer = with_moment_dtype(inner, jnp.dtype(moment_dtype))
    moved, state = descend(optimizer, params, gradients, updates)
    assert moved["w"].dtype == BFLOAT16
    assert state[1][0].mu["w"].dtype == state[1][0].nu["w"].dtype == moment_dtype
    steps = (np.float64(params["w"]) - np.float64(moved["w"])) * sign
    # Each update rounds up with probability 1e-6 / 1.2e-4: five standard errors of the mean.
    gap = 2.0**-13
    error = 5 * np.sqrt(updates * 1e-6 * gap / size)
    assert error < 0.06 * updates * 1e-6
    assert abs(steps.mean() - updates * 1e-6) < error


def test_the_second_moment_reaches_its_mean_in_bfloat16():
    """An average with decay 0.999, stored to nearest, stops where a step is less than half a bit."""
    size, b2, updates = 512, 0.999, 3000
    params, gradients = {"w": jnp.full(size, 0.02)}, {"w": jnp.full(size, 0.01)}
    optimizer = with_moment_dtype(small_rate_adamw(b2), BFLOAT16)
    _, state = descend(optimizer, params, gradients, updates)
    expected = 1e-4 * (1 - b2**updates)
    assert np.float64(state[1][0].nu["w"]).mean() == pytest.approx(expected, rel=0.01)

    def nearest(_, nu):
        wide = nu.astype(jnp.float32)
        return (b2 * wide + (1 - b2) * 1e-4).astype(BFLOAT16)

    stuck = jax.lax.fori_loop(0, updates, nearest, BFLOAT16.type(0))
    assert float(stuck) < 0.5 * expected


def test_in_float32_the_wrapper_changes_no_bit(tiny_params):
    inner = adamw(
        optax.constant_schedule(0.1), b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.1, max_grad_norm=1.0
    )
    gradients = jax.tree.map(lambda x: 0.1 * x + 0.01, tiny_params)

    def two_updates(optimizer):
        params, state = tiny_params, optimizer.init(tiny_params)
        for seed in (0, 1):
            params, state, _ = apply_finite(
                optimizer, gradients, state, params, jax.random.key(seed)
            )
        return params, state

    plain = jax.jit(lambda: two_updates(inner))()
    wrapped = jax.jit(lambda: two_updates(with_moment_dtype(inner, FLOAT32)))()
    assert jax.tree.structure(plain) == jax.tree.structure(wrapped)
    jax.tree.map(np.testing.assert_array_equal, wrapped, plain)


def test_one_update_is_the_float32_update_rounded():
    """From any stored state: the moments are within one bit of what float32 makes of them."""
    inner = adamw(
        optax.constant_schedule(0.1), b1=0.9, b2=0.99, eps=1e-8, weight_decay=0.1, max_grad_norm=1.0
    )
    optimizer = with_moment_dtype(inner, BFLOAT16)
    rng = np.random.default_rng(0)
    draw = lambda: {"w": jnp.asarray(rng.standard_normal((40, 30)), BFLOAT16)}  # noqa: E731
    params, gradients = draw(), jax.tree.map(lambda x: x.astype(jnp.float32), draw())
    state = optimizer.init(params)
    params, state, _ = apply_finite(optimizer, gradients, state, params, jax.random.key(0))
    assert int(state[1][0].count) == 1

    wide = jax.tree.map(
        lambda x: x.astype(jnp.float32) if x.dtype == BFLOAT16 else x, (params, state)
    )
    expected = apply_finite(inner, gradients, wide[1], wide[0], jax.random.key(1))[:2]
    found = apply_finite(optimizer, gradients, state, params, jax.random.key(1))[:2]
    for x, y in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert x.dtype in (BFLOAT16, jnp.int32)
        np.testing.assert_allclose(np.float32(x), np.float32(y), rtol=2**-7, atol=0)
