"""The tracker: its first batch, its step, its projection, and where it settles."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms import quantiles
from riskpo_jax.errors import UserError
from riskpo_jax.types import TrackerState

quick = settings(deadline=None, max_examples=25)
LEVELS = (0.2, 0.5, 0.8)
jit_update = jax.jit(quantiles.update, static_argnums=2)
jit_projection = jax.jit(quantiles.isotonic_projection)


def pool_adjacent_violators(values):
    """Blocks of (sum, length), merged from the left while their means descend."""
    blocks = []
    for value in values:
        blocks.append((value, 1))
        while len(blocks) > 1 and blocks[-2][0] / blocks[-2][1] > blocks[-1][0] / blocks[-1][1]:
            total, length = blocks.pop()
            blocks[-1] = (blocks[-1][0] + total, blocks[-1][1] + length)
    return [total / length for total, length in blocks for _ in range(length)]


def settle(sampler, step_size, steps, start, levels=LEVELS):
    """The tracked values after every step of a stream of batches of 64 scores."""

    def one(state, key):
        state = quantiles.update(state, sampler(key), levels, step_size(state.step))
        return state, state.values

    state = TrackerState(values=jnp.array(start), step=jnp.int32(1))
    return jax.lax.scan(one, state, jax.random.split(jax.random.key(0), steps))[1]


def test_official_levels():
    assert len(quantiles.OFFICIAL_LEVELS) == 19
    assert quantiles.OFFICIAL_LEVELS[0] == 0.05 and quantiles.OFFICIAL_LEVELS[-1] == 0.95
    np.testing.assert_allclose(np.diff(quantiles.OFFICIAL_LEVELS), 0.05)


def test_the_first_update_takes_the_batch_quantiles():
    scores = jnp.array([[4.0, 1.0, 3.0], [2.0, 5.0, 0.0]])
    state = quantiles.init(3)
    assert int(state.step) == 0
    shown = quantiles.initialise_if_needed(state, scores, LEVELS)
    np.testing.assert_array_equal(shown.values, [1, 2, 4])
    assert int(shown.step) == 0
    updated = jit_update(state, scores, LEVELS, 0.1)
    np.testing.assert_array_equal(updated.values, [1, 2, 4])
    assert int(updated.step) == 1
    # Once initialised, a batch is not shown.
    later = quantiles.initialise_if_needed(updated, scores + 10, LEVELS)
    np.testing.assert_array_equal(later.values, updated.values)


@quick
@given(
    st.lists(st.integers(0, 5), min_size=8, max_size=8),
    st.lists(st.integers(0, 50), min_size=3, max_size=3),
    st.integers(0, 20),
)
def test_an_update_against_loops(scores, values, tenths):
    values = sorted(v / 10 for v in values)
    state = TrackerState(values=jnp.array(values), step=jnp.int32(3))
    gamma = tenths / 10
    moved = [
        q + gamma * (p - sum(np.float32(z) < np.float32(q) for z in scores) / len(scores))
        for p, q in zip(LEVELS, values, strict=True)
    ]
    updated = jit_update(state, jnp.array(scores, jnp.float32).reshape(2, 4), LEVELS, gamma)
    np.testing.assert_allclose(updated.values, pool_adjacent_violators(moved), atol=1e-5)
    assert int(updated.step) == 4
    assert (np.diff(updated.values) >= 0).all()


@quick
@given(st.lists(st.integers(-30, 30), min_size=7, max_size=7))
def test_projection_is_pool_adjacent_violators(values):
    values = np.array(values, np.float32) / 10
    found = jit_projection(values)
    np.testing.assert_allclose(found, pool_adjacent_violators(values.tolist()), atol=1e-5)
    np.testing.assert_array_equal(jit_projection(np.sort(values)), np.sort(values))


def test_projection_pools_where_sorting_would_swap():
    np.testing.assert_allclose(jit_projection(jnp.array([1.0, 3.0, 2.0])), [1, 2.5, 2.5])


def test_levels_that_cross_come_back_in_order():
    # Both values lie below all scores but the one between them: the lower rises by more.
    state = TrackerState(values=jnp.array([0.9, 1.0]), step=jnp.int32(1))
    updated = quantiles.update(state, jnp.full(8, 0.95), (0.4, 0.6), 1.0)
    np.testing.assert_allclose(updated.values, [0.95, 0.95], atol=1e-6)


def test_a_decaying_step_finds_the_quantiles_of_a_stream():
    def exponential(key):
        return jax.random.exponential(key, (64,))

    def decaying(step):
        return quantiles.polynomial_step_size(step, 1.0, 20.0, 0.8)

    path = settle(exponential, decaying, 4000, [3.0, 4.0, 5.0])
    expected = -np.log(1 - np.array(LEVELS))
    np.testing.assert_allclose(path[-1], expected, atol=0.03)
    # The decay is what makes it settle: it moves less than a constant step does.
    assert np.std(path[-500:], axis=0).max() < 0.02


def test_a_constant_step_hovers_around_the_quantiles():
    def exponential(key):
        return jax.random.exponential(key, (64,))

    def constant(step):
        return quantiles.constant_step_size(step, 0.1)

    path = np.array(settle(exponential, constant, 2000, [3.0, 4.0, 5.0]))[-1000:]
    expected = -np.log(1 - np.array(LEVELS))
    np.testing.assert_allclose(path.mean(axis=0), expected, atol=0.03)
    assert (path.std(axis=0) > 1e-3).all()
    assert np.abs(path - expected).max() < 0.2


def test_on_atoms_it_settles_within_a_step_of_the_right_one():
    def binomial(key):
        return jax.random.bernoulli(key, 0.5, (64, 5)).sum(axis=1).astype(jnp.float32)

    def constant(step):
        return quantiles.constant_step_size(step, 0.1)

    path = np.array(settle(binomial, constant, 600, [0.0, 0.0, 0.0], (0.3, 0.6, 0.9)))[-200:]
    # The distribution function of Binomial(5, 1/2) is 1/32, 6/32, 16/32, 26/32, 31/32, 1.
    np.testing.assert_allclose(path, np.broadcast_to([2.0, 3.0, 4.0], path.shape), atol=0.1)


def test_lookup():
    state = TrackerState(values=jnp.array([1.0, 2.0, 3.0]), step=jnp.int32(1))
    assert float(quantiles.lookup(state, LEVELS, 0.8)) == 3
    assert float(quantiles.lookup(state, LEVELS, 0.1 + 0.1)) == 1
    with pytest.raises(UserError, match="level 0.9 is not tracked"):
        quantiles.lookup(state, LEVELS, 0.9)


def test_step_sizes():
    assert quantiles.polynomial_step_size(0, 0.5, 10, 0.7) == 0.5
    assert quantiles.polynomial_step_size(30, 0.5, 10, 0.5) == pytest.approx(0.25)
    assert quantiles.constant_step_size(30, 0.5) == 0.5
