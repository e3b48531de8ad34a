"""Tabular softmax policies, against autodiff and against sums written out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.theory import policy

score_gradient = jax.jit(policy.score_gradient)


@pytest.fixture
def logits_QxY():
    return 2 * np.random.default_rng(0).normal(size=(3, 5))


@pytest.fixture
def values_QxY():
    return np.random.default_rng(1).normal(size=(3, 5))


def test_entropy_of_a_uniform_and_of_a_certain_policy():
    found = jax.jit(policy.entropy)(jnp.array([[0.0, 0.0, 0.0, 0.0], [0.0, 800.0, 0.0, 0.0]]))
    np.testing.assert_allclose(found, [np.log(4), 0], atol=1e-12)


def test_covariance_is_that_of_numpy(logits_QxY, values_QxY):
    masses_QxY = jax.nn.softmax(logits_QxY)
    found_Q = jax.jit(policy.covariance)(masses_QxY, logits_QxY, values_QxY)
    for masses_Y, left_Y, right_Y, found in zip(
        masses_QxY, logits_QxY, values_QxY, found_Q, strict=True
    ):
        expected = np.cov(left_Y, right_Y, aweights=masses_Y, ddof=0)[0, 1]
        np.testing.assert_allclose(found, expected, rtol=1e-10)


def test_score_gradient_is_the_gradient_of_the_expected_advantage(logits_QxY, values_QxY):
    def expected_advantage(logits_QxY):
        return policy.expectation(policy.probabilities(logits_QxY), values_QxY).sum()

    found = score_gradient(logits_QxY, values_QxY)
    expected = jax.jit(jax.grad(expected_advantage))(logits_QxY)
    np.testing.assert_allclose(found, expected, atol=1e-14)


def test_a_constant_leaves_the_gradient_alone(logits_QxY, values_QxY):
    moved_QxY = values_QxY + np.array([[3.0], [-7.0], [0.5]])
    np.testing.assert_allclose(
        score_gradient(logits_QxY, moved_QxY),
        score_gradient(logits_QxY, values_QxY),
        atol=1e-14,
    )
