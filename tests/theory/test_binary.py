"""Bundles of binary questions, against enumeration and against the tabular policy."""

import itertools
from functools import partial

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms.mvar import mvar_advantage, risk_neutral_advantage
from riskpo_jax.theory import binary, bundle, entropy, policy

quick = settings(deadline=None, max_examples=25)
rates = st.integers(0, 100).map(lambda i: i / 100)
mvar = partial(mvar_advantage, q_alpha=1.0, q_beta=2.0, omega=0.5)
mean = partial(risk_neutral_advantage, q_alpha=0.0, q_beta=0.0, omega=0.0)

pass_count_masses = jax.jit(binary.pass_count_masses)
question_weights = jax.jit(binary.question_weights, static_argnums=1)


@quick
@given(pass_rates=st.lists(rates, min_size=4, max_size=4))
def test_pass_counts_by_enumeration(pass_rates):
    expected = np.zeros(5)
    for outcome in itertools.product([0, 1], repeat=4):
        chances = [p if solved else 1 - p for p, solved in zip(pass_rates, outcome, strict=True)]
        expected[sum(outcome)] += np.prod(chances)
    np.testing.assert_allclose(pass_count_masses(np.array(pass_rates)), expected, atol=1e-14)


@pytest.mark.parametrize("pass_rate", [0.0, 0.1, 0.5, 1.0])
def test_a_group_without_a_gradient(pass_rate):
    masses = np.array([1 - pass_rate, pass_rate])
    expected = pass_rate**8 + (1 - pass_rate) ** 8
    assert float(binary.all_equal_probability(masses, 8)) == pytest.approx(expected, abs=1e-15)


@quick
@given(pass_rates=st.lists(rates, min_size=4, max_size=4))
def test_scores_of_a_bundle_are_all_equal_less_often_than_any_question_s_rewards(pass_rates):
    """Young's inequality: a convolution is no larger in the G-norm than its parts."""
    of_bundle = binary.all_equal_probability(np.array(pass_count_masses(np.array(pass_rates))), 8)
    for p in pass_rates:
        assert of_bundle <= binary.all_equal_probability(np.array([1 - p, p]), 8) + 1e-12


def test_the_weights_of_the_mean_are_one():
    np.testing.assert_allclose(question_weights(np.array([0.1, 0.6, 0.9]), mean), 1, rtol=1e-12)


def test_the_advantage_of_a_response_is_its_weight_times_its_surprise():
    """`E[A(z) | s_i] - E A(z) = w_i (s_i - p_i)`, from the tabular policy with two responses."""
    pass_rates = np.array([0.1, 0.3, 0.8])
    logits_QxY = np.log(np.stack([1 - pass_rates, pass_rates], axis=1))
    rewards_QxY = np.array([[0.0, 1.0]] * 3)

    @jax.jit
    def centred_advantages(logits_QxY):
        advantages_QxY = bundle.expected_advantages(logits_QxY, rewards_QxY, mvar)
        return policy.centre(policy.probabilities(logits_QxY), advantages_QxY)

    weights = np.array(question_weights(pass_rates, mvar))
    expected = weights[:, None] * (rewards_QxY - pass_rates[:, None])
    np.testing.assert_allclose(centred_advantages(logits_QxY), expected, atol=1e-14)


def test_all_that_mvar_does_to_the_entropy_is_in_the_weights():
    """A natural step changes a question's entropy by `-w_i Cov(log pi, s)`; the mean's has w_i = 1."""
    draws = np.random.default_rng(0)
    logits_QxY, rewards_QxY = draws.normal(size=(3, 4)), np.array([[0.0, 1.0, 0.0, 1.0]] * 3)

    @jax.jit
    def changes(logits_QxY):
        advantages_QxY = bundle.expected_advantages(logits_QxY, rewards_QxY, mvar)
        pass_rates_Q = policy.expectation(policy.probabilities(logits_QxY), rewards_QxY)
        weights_Q = binary.question_weights(pass_rates_Q, mvar)
        return (
            entropy.first_order_change(logits_QxY, advantages_QxY),
            weights_Q * entropy.first_order_change(logits_QxY, rewards_QxY),
        )

    found, expected = changes(logits_QxY)
    assert np.abs(found).min() > 1e-3
    np.testing.assert_allclose(found, expected, rtol=1e-10)
