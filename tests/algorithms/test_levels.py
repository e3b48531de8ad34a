"""Placed levels: those given where there are no atoms, off the atoms where there are."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms import levels, mvar, quantiles
from riskpo_jax.types import TrackerState

quick = settings(deadline=None, max_examples=50)
LEVELS = quantiles.OFFICIAL_LEVELS
B = 5  # scores 0..5
adaptive = jax.jit(levels.adaptive, static_argnames="tracked")


def tracker_of(values):
    return TrackerState(jnp.asarray(values, jnp.float32), jnp.int32(3))


def place(values, low, high, step_size=0.01, alpha=0.2, beta=0.8):
    """RiskLevels as floats."""
    tracker = tracker_of(values)
    found = adaptive(tracker, low, high, step_size, tracked=LEVELS, alpha=alpha, beta=beta)
    return levels.RiskLevels(*map(float, found))


def exact_quantiles(masses):
    """The smallest score whose cumulative mass reaches each level."""
    return np.searchsorted(np.cumsum(masses) + 1e-9, LEVELS).clip(0, len(masses) - 1)


masses_of_scores = (
    st.lists(st.integers(0, 20), min_size=B + 1, max_size=B + 1)
    .filter(any)
    .map(lambda counts: np.array(counts) / sum(counts))
)
pairs_of_levels = st.sampled_from([(0.2, 0.8), (0.1, 0.8), (0.2, 0.9), (0.05, 0.95), (0.5, 0.55)])


def oracle(masses, alpha, beta):
    """(alpha', beta', q_alpha, q_beta) by loops over the tracked levels and the atoms."""
    scores = exact_quantiles(masses).tolist()
    p0 = max([p for p, z in zip(LEVELS, scores, strict=True) if z == 0], default=0)
    p1 = max([1 - p for p, z in zip(LEVELS, scores, strict=True) if z == B], default=0)
    nodes = [(p0, 0)] if p0 else []
    for atom in range(1, B):
        there = [p for p, z in zip(LEVELS, scores, strict=True) if z == atom]
        if there:
            nodes.append(((there[0] + there[-1]) / 2, atom))
    nodes += [(1 - p1, B)] if p1 else []
    if scores[-1] == 0:
        nodes.append((1, B))
    if scores[0] == B:
        nodes.insert(0, (0, 0))
    placed = [p0 + level * (1 - p0 - p1) for level in (alpha, beta)]
    return *placed, *np.interp(placed, *zip(*nodes, strict=True))


def test_fixed_levels_are_looked_up():
    tracker = tracker_of(np.arange(19))
    found = levels.fixed(tracker, 0.0, 5.0, 0.1, tracked=LEVELS, alpha=0.2, beta=0.8)
    assert found == (0.2, 0.8, 3, 15)


@quick
@given(
    st.lists(st.integers(3, 40), min_size=18, max_size=18), st.integers(-30, 30), pairs_of_levels
)
def test_without_atoms_the_levels_are_those_given(gaps, start, pair):
    values = start + np.cumsum([0, *gaps]) / 8
    found = place(values, values[0] - 1, values[-1] + 1, 0.1, *pair)
    expected = [values[round(20 * level) - 1] for level in pair]
    np.testing.assert_allclose(found, [*pair, *expected], rtol=1e-5, atol=1e-5)


@quick
@given(masses_of_scores, pairs_of_levels)
def test_on_atoms_against_loops(masses, pair):
    found = place(exact_quantiles(masses), 0.0, float(B), 0.1, *pair)
    np.testing.assert_allclose(found, oracle(masses, *pair), atol=2e-4)


@quick
@given(masses_of_scores, pairs_of_levels)
def test_the_order_of_levels_and_quantiles(masses, pair):
    found = place(exact_quantiles(masses), 0.0, float(B), 0.1, *pair)
    assert 0 < found.alpha < found.beta < 1
    assert 0 <= found.q_alpha <= found.q_beta <= B
    assert found.alpha >= min(masses[0], 0.95) - 0.05  # to the resolution of the levels
    assert found.beta <= 1 - min(masses[-1], 0.95) + 0.05 + 1e-6


@quick
@given(
    st.lists(st.integers(0, 80), min_size=19, max_size=19),
    st.sampled_from([0.25, 0.5, 2.0, 4.0]),
    st.integers(-8, 8),
)
def test_scores_may_be_scaled_and_shifted(sixteenths, scale, shift):
    values = np.sort(sixteenths) / 16
    plain = place(values, 0.0, 5.0, 1 / 64)
    moved = place(scale * values + shift, shift, 5 * scale + shift, scale / 64)
    assert moved[:2] == plain[:2]
    np.testing.assert_allclose(moved[2:], scale * np.array(plain[2:]) + shift, atol=1e-4)


@pytest.mark.parametrize("score", [0.0, 5.0, -5.0])
@pytest.mark.parametrize("tracked", ["as the batch", "spread"])
def test_a_batch_of_equal_scores_has_the_levels_given(score, tracked):
    values = np.full(19, score) if tracked == "as the batch" else np.linspace(-5, 5, 19)
    found = place(values, score, score, 0.1)
    assert np.isfinite(found).all() and found[:2] == (np.float32(0.2), np.float32(0.8))
    assert found.q_alpha <= found.q_beta


@quick
@given(st.integers(0, 20), st.integers(0, 20))
def test_of_two_scores_the_advantage_is_a_multiple(zeros, ones):
    """B = 1 and binary rewards: MVaR at any level is the mean, up to its scale."""
    assume(zeros + ones)
    scores = np.searchsorted(np.array([zeros, zeros + ones]) / (zeros + ones) + 1e-9, LEVELS)
    found = place(scores.clip(0, 1), 0.0, 1.0, 0.1)
    worst, best = mvar.mvar_advantage(jnp.array([0.0, 1.0]), found.q_alpha, found.q_beta, 0.5)
    assert best - worst > 0.5


def test_where_most_scores_are_the_lowest_a_better_one_still_has_an_advantage():
    masses = np.array([0.9, 0.06, 0.03, 0.01, 0, 0])
    values = exact_quantiles(masses)

    def advantages(bends):
        return np.array(mvar.mvar_advantage(jnp.arange(3.0), bends.q_alpha, bends.q_beta, 0.5))

    fixed = levels.fixed(tracker_of(values), 0, 5, 0.1, tracked=LEVELS, alpha=0.2, beta=0.8)
    np.testing.assert_array_equal(advantages(fixed), 0)
    assert np.diff(advantages(place(values, 0.0, 5.0, 0.1)))[0] > 0.5


def test_a_stream_of_atoms_is_seen_through_the_tracker():
    """Binomial(5, 0.16): 0.42 of the scores are 0, and the estimates wander by a step around atoms."""
    masses = np.array([math.comb(B, z) * 0.16**z * 0.84 ** (B - z) for z in range(B + 1)])

    def one(state, key):
        scores = jax.random.bernoulli(key, 0.16, (48, B)).sum(axis=1).astype(jnp.float32)
        step_size = quantiles.polynomial_step_size(state.step, 0.1, 100.0, 0.6)
        current = quantiles.initialise_if_needed(state, scores, LEVELS)
        found = levels.adaptive(current, 0.0, 5.0, step_size, tracked=LEVELS, alpha=0.2, beta=0.8)
        return quantiles.update(state, scores, LEVELS, step_size), jnp.stack(found)

    start = quantiles.init(len(LEVELS))
    keys = jax.random.split(jax.random.key(1), 300)
    path = np.array(jax.jit(lambda: jax.lax.scan(one, start, keys)[1])())
    expected = oracle(masses, 0.2, 0.8)
    np.testing.assert_allclose(path[:, :2].mean(axis=0), expected[:2], atol=0.04)
    # An estimate on its way from one atom to the next takes hundreds of steps and pulls at them.
    np.testing.assert_allclose(path[100:, 2:].mean(axis=0), expected[2:], atol=0.4)
    assert path[:, 2].min() > 0.1  # the tail is never empty
