"""Bundles: orders, permutations, scores, and credits against loops over every permutation."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms import bundles
from riskpo_jax.algorithms.mvar import mvar_advantage, risk_neutral_advantage
from riskpo_jax.algorithms.risk import quantile
from riskpo_jax.errors import UserError

quick = settings(deadline=None, max_examples=25)
seeds = st.integers(0, 2**20)
OMEGA = 0.5


def mvar(scores):
    return mvar_advantage(scores, 0.9, 2.1, OMEGA)


def mvar_scalar(z):
    return -(1 + OMEGA) * max(0.9 - z, 0.0) + min(max(z, 0.9), 2.1) - 2.1


jit_expected = jax.jit(bundles.expected_credit, static_argnums=(1, 2))


def rewards_of(kind, shape):
    values = {
        "binary": [0.0, 1.0],
        "plus-minus": [-1.0, 1.0],
        "graded": [0.0, 0.25, 1 / 3, 0.8, 1.0],
        "off-grid": [0.0, 0.1234, 0.777, 1.0],
    }[kind]
    count = int(np.prod(shape)) - 2

    def spanning(middle):
        """Both extremes occur, so that the grid does not depend on the draw."""
        return np.array([values[0], *middle, values[-1]], np.float32).reshape(shape)

    return st.lists(st.sampled_from(values), min_size=count, max_size=count).map(spanning)


def others_oracle(rewards_BxG, i):
    """The equally likely scores of the questions other than i."""
    rows = [row for j, row in enumerate(rewards_BxG.astype(np.float64)) if j != i]
    return [sum(draw) for draw in itertools.product(*rows)]


def expected_oracle(rewards, advantage):
    out = np.zeros(rewards.shape)
    for k, i, n in np.ndindex(rewards.shape):
        others = others_oracle(rewards[k], i)
        out[k, i, n] = np.mean([advantage(float(rewards[k, i, n]) + z) for z in others])
    return out


# Orders


def test_random_order_is_a_permutation_that_depends_on_the_key():
    first, second = (bundles.random_order(jax.random.key(seed), 40) for seed in (0, 1))
    np.testing.assert_array_equal(np.sort(first), np.arange(40))
    assert (np.array(first) != np.array(second)).any()


@quick
@given(seeds)
def test_stratified_order_sorts_pass_rates_and_breaks_ties_at_random(seed):
    rates = np.random.default_rng(seed).integers(0, 4, 24).astype(np.float32) / 4
    orders = [
        np.array(bundles.stratified_order(jax.random.key(s), rates)) for s in (seed, seed + 1)
    ]
    for order in orders:
        np.testing.assert_array_equal(np.sort(order), np.arange(24))
        np.testing.assert_array_equal(rates[order], np.sort(rates))
    assert (orders[0] != orders[1]).any()


@quick
@given(seeds)
def test_from_bundles_inverts_to_bundles(seed):
    values = np.random.default_rng(seed).normal(size=(12, 3)).astype(np.float32)
    order = bundles.random_order(jax.random.key(seed), 12)
    bundled = bundles.to_bundles(values, order, 4)
    assert bundled.shape == (3, 4, 3)
    np.testing.assert_array_equal(bundled[1, 2], values[order[6]])
    np.testing.assert_array_equal(bundles.from_bundles(bundled, order), values)


def test_a_bundle_size_that_does_not_divide_is_an_error():
    with pytest.raises(UserError, match="bundle size 5 does not divide the 12 questions"):
        bundles.to_bundles(jnp.zeros((12, 3)), jnp.arange(12), 5)


# Permutations, scores and uniform credit


def test_permutations_are_independent_and_uniform():
    drawn = np.array(bundles.draw_permutations(jax.random.key(0), (200, 6, 3)))
    np.testing.assert_array_equal(
        np.sort(drawn, axis=-1), np.broadcast_to(np.arange(3), drawn.shape)
    )
    codes = (drawn * [9, 3, 1]).sum(axis=-1)
    # Each of the 36 pairs of permutations of two questions is equally likely.
    pairs = np.unique(np.stack([codes[:, ::2], codes[:, 1::2]], -1).reshape(-1, 2), axis=0)
    _, counts = np.unique(codes, return_counts=True)
    assert len(pairs) == 36
    np.testing.assert_allclose(counts, 200, atol=60)


@quick
@given(seeds)
def test_scores_and_uniform_credit_against_loops(seed):
    rewards = np.random.default_rng(seed).random((2, 3, 4)).astype(np.float32)
    permutations = bundles.draw_permutations(jax.random.key(seed), rewards.shape)
    scores = bundles.bundle_scores(rewards, permutations)
    credit = bundles.uniform_credit(scores, permutations)
    expected_scores, expected_credit = np.zeros((2, 4)), np.zeros((2, 3, 4))
    for k, i, n in np.ndindex(2, 3, 4):
        expected_scores[k, n] += rewards[k, i, permutations[k, i, n]]
    for k, i, n in np.ndindex(2, 3, 4):
        expected_credit[k, i, permutations[k, i, n]] = expected_scores[k, n]
    np.testing.assert_allclose(scores, expected_scores, atol=1e-6)
    np.testing.assert_allclose(credit, expected_credit, atol=1e-6)


@quick
@given(rewards_of("graded", (5, 1, 4)), seeds)
def test_one_question_a_bundle_is_the_plain_method(rewards, seed):
    permutations = bundles.draw_permutations(jax.random.key(seed), rewards.shape)
    scores = bundles.bundle_scores(rewards, permutations)
    plain = mvar(rewards)
    np.testing.assert_array_equal(bundles.uniform_credit(mvar(scores), permutations), plain)
    np.testing.assert_allclose(jit_expected(rewards, mvar, 61), plain, rtol=1e-6)


# Expected credit


@pytest.mark.parametrize("kind", ["binary", "plus-minus", "graded"])
@settings(deadline=None, max_examples=5)
@given(data=st.data())
def test_expected_credit_is_the_average_over_all_permutations(kind, data):
    rewards = data.draw(rewards_of(kind, (1, 3, 3)))
    every = list(itertools.permutations(range(3)))
    combinations = np.array(list(itertools.product(every, repeat=3)))
    assert combinations.shape == (216, 3, 3)

    # Each joint permutation is a bundle of its own.
    repeated = jnp.broadcast_to(rewards, combinations.shape)
    scores = bundles.bundle_scores(repeated, combinations)
    average = bundles.uniform_credit(mvar(scores), combinations).mean(axis=0)
    np.testing.assert_allclose(jit_expected(rewards, mvar, 61)[0], average, atol=2e-5)


@pytest.mark.parametrize("kind", ["binary", "plus-minus", "graded"])
@quick
@given(data=st.data())
def test_expected_credit_against_loops(kind, data):
    rewards = data.draw(rewards_of(kind, (2, 4, 3)))
    expected = expected_oracle(rewards, mvar_scalar)
    np.testing.assert_allclose(jit_expected(rewards, mvar, 61), expected, atol=2e-5)


@quick
@given(rewards_of("off-grid", (2, 3, 3)), st.sampled_from([11, 61]))
def test_off_the_grid_the_error_has_one_sign_and_a_bound(rewards, grid_points):
    """A split keeps the mean and spreads, so a concave advantage can only fall (Jensen)."""
    error = np.array(jit_expected(rewards, mvar, grid_points)) - expected_oracle(
        rewards, mvar_scalar
    )
    # Each of the two others moves by half a spacing on average, at the steepest slope.
    spacing = 1 / (grid_points - 1)
    assert error.max() <= 2e-5
    assert error.min() >= -2 * (1 + OMEGA) * spacing / 2 - 2e-5


@quick
@given(rewards_of("off-grid", (2, 3, 3)))
def test_a_linear_advantage_is_exact_on_any_grid(rewards):
    found = jit_expected(rewards, neutral, 7)
    means = rewards.mean(axis=-1)
    others = means.sum(axis=1)[:, None] - means
    np.testing.assert_allclose(found, rewards + others[..., None], atol=1e-5)


def neutral(scores):
    return risk_neutral_advantage(scores, 0.9, 2.1, OMEGA)


@quick
@given(rewards_of("binary", (3, 4, 5)))
def test_binary_closed_form(rewards):
    """A_RB - mean = w_i (s - p_i), w_i the expected slope of A at the others' score."""
    found = bundles.subtract_mean(jit_expected(rewards, mvar, 2), -1)
    for k, i in np.ndindex(3, 4):
        slope = np.mean([mvar_scalar(z + 1) - mvar_scalar(z) for z in others_oracle(rewards[k], i)])
        expected = slope * (rewards[k, i] - rewards[k, i].mean())
        np.testing.assert_allclose(found[k, i], expected, atol=1e-5)


@quick
@given(rewards_of("graded", (2, 4, 3)), st.sampled_from([0.0, 0.25, 1.0]))
def test_a_question_with_equal_rewards_has_no_expected_advantage(rewards, value):
    rewards[0, 1] = value
    for centre in (bundles.subtract_mean, bundles.subtract_leave_one_out_mean):
        credit = centre(jit_expected(rewards, mvar, 61), -1)
        np.testing.assert_allclose(credit[0, 1], np.zeros(3), atol=1e-6)


@quick
@given(rewards_of("graded", (2, 4, 3)), seeds)
def test_expected_credit_does_not_depend_on_the_order(rewards, seed):
    random = np.random.default_rng(seed)
    questions, responses = random.permutation(4), random.permutation(3)
    shuffled = rewards[:, questions][:, :, responses]
    expected = np.array(jit_expected(rewards, mvar, 61))[:, questions][:, :, responses]
    np.testing.assert_allclose(jit_expected(shuffled, mvar, 61), expected, atol=1e-5)


@pytest.mark.parametrize("shape", [(1, 5, 1), (2, 3, 4), (1, 1, 1), (3, 1, 4)])
@pytest.mark.parametrize("value", [0.0, 1.0, -1.0, 0.37])
def test_all_equal_rewards_have_one_score(shape, value):
    rewards = np.full(shape, value, np.float32)
    expected = mvar_scalar(shape[1] * np.float64(np.float32(value)))
    np.testing.assert_allclose(jit_expected(rewards, mvar, 61), np.full(shape, expected), atol=1e-5)


def test_expected_credit_at_full_size_against_a_float64_convolution():
    rewards = np.random.default_rng(0).integers(0, 61, (2, 10, 16)).astype(np.float32) / 60
    rewards[0, 0, :2] = [0, 1]
    found = jit_expected(rewards, lambda z: mvar_advantage(z, 4.0, 6.0, OMEGA), 61)

    def scalar(z):
        return -(1 + OMEGA) * np.maximum(4 - z, 0) + np.clip(z, 4, 6) - 6

    for k, i in np.ndindex(2, 10):
        others = np.ones(1)
        for j in range(10):
            if j != i:
                counts = np.bincount(np.rint(rewards[k, j] * 60).astype(int), minlength=61)
                others = np.convolve(others, counts / 16)
        z = np.arange(others.size) / 60
        expected = [others @ scalar(float(s) + z) for s in rewards[k, i]]
        np.testing.assert_allclose(found[k, i], expected, atol=2e-5)


@pytest.mark.parametrize("shape", [(3, 5, 4), (3, 5, 1), (1, 5, 4), (4, 1, 4), (1, 1, 1)])
@pytest.mark.parametrize("low, high", [(0, 0), (1, 1), (0, 1), (-1, 1), (-1e6, 1e6)])
def test_the_way_from_rewards_to_advantages_stays_finite(shape, low, high):
    """All wrong, all right, +-1 and huge rewards; one response, one bundle, one question."""
    rewards = np.linspace(low, high, int(np.prod(shape)), dtype=np.float32).reshape(shape)
    permutations = bundles.draw_permutations(jax.random.key(0), shape)
    scores = bundles.bundle_scores(rewards, permutations)
    q_alpha, q_beta = quantile(scores, 0.2), quantile(scores, 0.8)

    def advantage(scores):
        return mvar_advantage(scores, q_alpha, q_beta, OMEGA)

    uniform = bundles.uniform_credit(advantage(scores), permutations)
    expected = bundles.subtract_leave_one_out_mean(bundles.expected_credit(rewards, advantage), -1)
    for credit in (uniform, expected):
        assert credit.shape == shape and np.isfinite(credit).all()
    if low == high:
        np.testing.assert_allclose(expected, np.zeros(shape), atol=1e-6)


# Baselines


@quick
@given(rewards_of("off-grid", (2, 3, 4)))
def test_baselines_against_loops(values):
    mean, others = bundles.subtract_mean, bundles.subtract_leave_one_out_mean
    for k, i, n in np.ndindex(values.shape):
        row = values[k, i].astype(np.float64)
        assert float(mean(values, -1)[k, i, n]) == pytest.approx(row[n] - row.mean(), abs=1e-5)
        rest = np.delete(row, n).mean()
        assert float(others(values, 2)[k, i, n]) == pytest.approx(row[n] - rest, abs=1e-5)
    whole = values.astype(np.float64)
    np.testing.assert_allclose(mean(values, (0, 1, 2)), whole - whole.mean(), atol=1e-5)
    rest = (whole.sum() - whole) / (whole.size - 1)
    np.testing.assert_allclose(others(values, (0, 1, 2)), whole - rest, atol=1e-5)


def test_baselines_of_an_axis_of_one_and_of_equal_values_are_zero():
    for values in (np.array([[0.3], [5.0]], np.float32), np.full((2, 7), 0.1, np.float32)):
        for centre in (bundles.subtract_mean, bundles.subtract_leave_one_out_mean):
            np.testing.assert_array_equal(centre(values, -1), np.zeros_like(values))
