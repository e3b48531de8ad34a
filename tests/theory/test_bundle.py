"""Theorem 1: the gradient of the exact risk measure is E[A(z) grad log pi], A being what is trained with."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.algorithms.mvar import mvar_advantage
from riskpo_jax.theory import bundle, distribution

ALPHA, BETA, OMEGA = 0.2, 0.8, 0.5
QUESTIONS, RESPONSES = 3, 4


def random_bundle(seed):
    """Logits and distinct graded rewards, [3, 4]: 64 tuples, so no level hits a value of the CDF."""
    draws = np.random.default_rng(seed)
    shape = (QUESTIONS, RESPONSES)
    return draws.normal(size=shape), draws.uniform(size=shape)


def binary_bundle(seed):
    """Two right and two wrong answers a question: 4 scores, each a large atom."""
    logits_QxY, _ = random_bundle(seed)
    return logits_QxY, np.array([[0.0, 0.0, 1.0, 1.0]] * QUESTIONS)


def advantage_at(omega, scores_S, masses_S):
    """The advantage of `algorithms/mvar.py` at the exact quantiles."""
    q_alpha = distribution.quantile(scores_S, masses_S, ALPHA)
    q_beta = distribution.quantile(scores_S, masses_S, BETA)
    return partial(mvar_advantage, q_alpha=q_alpha, q_beta=q_beta, omega=omega)


def mvar_of(logits_QxY, rewards_QxY):
    return distribution.mvar(
        *bundle.score_distribution(logits_QxY, rewards_QxY), ALPHA, BETA, OMEGA
    )


def middle_of(logits_QxY, rewards_QxY):
    return distribution.rvar(*bundle.score_distribution(logits_QxY, rewards_QxY), ALPHA, BETA)


@jax.jit
def mvar_by_theorem_1(logits_QxY, rewards_QxY):
    advantage_fn = advantage_at(OMEGA, *bundle.score_distribution(logits_QxY, rewards_QxY))
    return bundle.expected_gradient(logits_QxY, rewards_QxY, advantage_fn)


@jax.jit
def middle_by_theorem_1(logits_QxY, rewards_QxY):
    """omega = -1 takes the lower tail out of the advantage and leaves `clip(z, q_a, q_b) - q_b`."""
    advantage_fn = advantage_at(-1.0, *bundle.score_distribution(logits_QxY, rewards_QxY))
    return bundle.expected_gradient(logits_QxY, rewards_QxY, advantage_fn) / (BETA - ALPHA)


def test_scores_and_masses_of_tuples_by_hand():
    logits = np.log([[0.25, 0.75], [0.5, 0.5]])
    rewards = np.array([[0.0, 1.0], [0.0, 2.0]])
    scores_S, masses_S = jax.jit(bundle.score_distribution)(logits, rewards)
    np.testing.assert_allclose(scores_S, [0, 2, 1, 3])
    np.testing.assert_allclose(masses_S, [0.125, 0.125, 0.375, 0.375])


def test_expected_advantages_are_conditional_means():
    logits_QxY, rewards_QxY = random_bundle(0)
    found = jax.jit(bundle.expected_advantages, static_argnums=2)(
        logits_QxY, rewards_QxY, jnp.square
    )
    weights, rewards = np.exp(logits_QxY), np.array(rewards_QxY)
    masses = weights / weights.sum(axis=1, keepdims=True)
    expected = sum(
        masses[0, j] * masses[2, k] * (rewards[0, j] + rewards[1, 3] + rewards[2, k]) ** 2
        for j in range(RESPONSES)
        for k in range(RESPONSES)
    )
    np.testing.assert_allclose(found[1, 3], expected, rtol=1e-12)


@pytest.mark.parametrize("make", [random_bundle, binary_bundle])
@pytest.mark.parametrize(
    "measure, by_theorem_1", [(mvar_of, mvar_by_theorem_1), (middle_of, middle_by_theorem_1)]
)
def test_theorem_1_against_autodiff(make, measure, by_theorem_1):
    gradient = jax.jit(jax.grad(measure))
    for seed in range(5):
        found = by_theorem_1(*make(seed))
        assert np.abs(found).max() > 1e-3
        np.testing.assert_allclose(found, gradient(*make(seed)), atol=1e-13)


def test_theorem_1_against_finite_differences():
    logits_QxY, rewards_QxY = random_bundle(7)
    steps = 1e-6 * jnp.eye(logits_QxY.size).reshape(-1, *logits_QxY.shape)
    measure = jax.jit(jax.vmap(mvar_of, in_axes=(0, None)))
    moved = [measure(logits_QxY[None] + sign * steps, rewards_QxY) for sign in (1, -1)]
    found = mvar_by_theorem_1(logits_QxY, rewards_QxY)
    np.testing.assert_allclose(found.reshape(-1), (moved[0] - moved[1]) / 2e-6, atol=1e-8)


def test_where_a_level_is_a_value_of_the_cdf_there_are_two_gradients():
    """F(0) = alpha: every point of [0, 1] is a quantile, and MVaR has a kink.

    As a maximum over quantiles of functions that are linear in the probabilities, MVaR is convex in
    them: its slope to one side is the gradient with one end of the interval as the quantile, to the
    other side with the other.
    """
    logits_1xY = jnp.array(np.log([[0.2, 0.5, 0.3]]))
    rewards_1xY = jnp.array([[0.0, 1.0, 2.0]])
    direction = np.array([[-1.0, 0.0, 0.0]])  # off score 0: its mass falls below alpha at once

    def slope_with(q_alpha):
        advantage_fn = partial(mvar_advantage, q_alpha=q_alpha, q_beta=2.0, omega=OMEGA)
        gradient = bundle.expected_gradient(logits_1xY, rewards_1xY, advantage_fn)
        return (direction * gradient).sum()

    measure = jax.jit(mvar_of)
    behind, here, ahead = (
        measure(logits_1xY + step * direction, rewards_1xY) for step in (-1e-6, 0.0, 1e-6)
    )
    np.testing.assert_allclose(slope_with(1.0), (ahead - here) / 1e-6, atol=1e-5)
    np.testing.assert_allclose(slope_with(0.0), (here - behind) / 1e-6, atol=1e-5)
    assert slope_with(1.0) - slope_with(0.0) > 0.05
    # What the algorithm takes, the lower end, is one of the two.
    assert float(distribution.quantile(rewards_1xY[0], jnp.array([0.2, 0.5, 0.3]), ALPHA)) == 0
