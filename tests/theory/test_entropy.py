"""Proposition 1: -eta Cov(log pi, A), with a remainder of second order."""

import jax
import numpy as np

from riskpo_jax.algorithms.mvar import mvar_advantage
from riskpo_jax.theory import bundle, entropy, policy


def policies_and_advantages(num_policies=20, num_responses=6):
    draws = np.random.default_rng(0)
    shape = (num_policies, num_responses)
    return 1.5 * draws.normal(size=shape), draws.normal(size=shape)


@jax.jit
def natural_remainder(logits, advantages, step_size):
    step = entropy.natural_step(advantages, step_size)
    return entropy.change(logits, step) - entropy.first_order_change(logits, step)


@jax.jit
def vanilla_remainder(logits, advantages, step_size):
    step = entropy.vanilla_step(logits, advantages, step_size)
    return entropy.change(logits, step) - entropy.first_order_change(logits, step)


def assert_shrinks_quadratically(remainder):
    logits, advantages = policies_and_advantages()
    sizes = [
        np.abs(remainder(logits, advantages, step_size)).mean() for step_size in (4e-3, 2e-3, 1e-3)
    ]
    assert sizes[0] > 1e-7  # far above rounding
    np.testing.assert_allclose([sizes[0] / sizes[1], sizes[1] / sizes[2]], 4, rtol=0.02)


def test_the_remainder_of_a_natural_step_shrinks_quadratically():
    assert_shrinks_quadratically(natural_remainder)


def test_the_remainder_of_a_vanilla_step_shrinks_quadratically():
    assert_shrinks_quadratically(vanilla_remainder)


def test_the_natural_step_solves_the_fisher_equation():
    """`Fisher @ A = E[A grad log pi]`, with Fisher = E[grad log pi grad log pi^T]."""
    logits, advantages = (np.array(x[0]) for x in policies_and_advantages(1))
    masses = np.exp(logits) / np.exp(logits).sum()
    fisher = np.diag(masses) - np.outer(masses, masses)
    expected = jax.jit(policy.score_gradient)(logits, advantages)
    np.testing.assert_allclose(fisher @ entropy.natural_step(advantages, 1.0), expected, atol=1e-14)


def test_pi_times_an_advantage_that_is_not_centred_is_another_step():
    """MVaR's advantage is never positive: here "pi A" is far off what the gradient does."""
    masses = np.array([0.1, 0.8, 0.1])
    advantages = np.array([-2.5, -1.0, 0.0])

    @jax.jit
    def predictions_and_truth(logits):
        step = entropy.vanilla_step(logits, advantages, 1.0)
        uncentred = entropy.first_order_change(logits, masses * advantages)
        truth = entropy.change(logits, 1e-4 * step) / 1e-4
        return entropy.first_order_change(logits, step), uncentred, truth

    of_the_gradient, uncentred, truth = predictions_and_truth(np.log(masses))
    np.testing.assert_allclose(of_the_gradient, truth, rtol=1e-3)
    assert abs(uncentred - truth) > 0.1


def test_a_bundle_loses_the_entropy_of_its_questions():
    """With credit E[A | y_i] on each question, the covariances add up to that of the tuples."""
    draws = np.random.default_rng(1)
    logits_QxY, rewards_QxY = draws.normal(size=(2, 3, 4))

    def advantage_fn(scores):
        return mvar_advantage(scores, -1.0, 0.5, 0.5)

    @jax.jit
    def both(logits_QxY, rewards_QxY):
        advantages_QxY = bundle.expected_advantages(logits_QxY, rewards_QxY, advantage_fn)
        log_masses_S = bundle.sum_over_questions(policy.log_probabilities(logits_QxY))
        advantages_S = advantage_fn(bundle.sum_over_questions(rewards_QxY))
        by_question = entropy.first_order_change(logits_QxY, advantages_QxY).sum()
        return by_question, entropy.first_order_change(log_masses_S, advantages_S)

    by_question, of_tuples = both(logits_QxY, rewards_QxY)
    assert abs(by_question) > 1e-2
    np.testing.assert_allclose(by_question, of_tuples, rtol=1e-10)
