"""The MVaR advantage: its oracle, its shape, and the risk measure that it is the gradient of."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms import risk
from riskpo_jax.algorithms.mvar import (
    mvar_advantage,
    risk_neutral_advantage,
    risk_seeking_advantage,
)

quick = settings(deadline=None, max_examples=30)
numbers = st.integers(-500, 500).map(lambda i: i / 100)
omegas = st.integers(0, 40).map(lambda i: i / 10)
scores_8 = st.lists(numbers, min_size=8, max_size=8).map(lambda x: np.array(x, np.float32))


def mvar_oracle(z, a, b, omega):
    below = a - z if z < a else 0.0
    middle = a if z < a else min(z, b)
    return -(1 + omega) * below + middle - b


def seeking_oracle(z, a, b, omega):
    above = z - b if z > b else 0.0
    middle = a if z < a else min(z, b)
    return (1 + omega) * above + middle - a


@pytest.mark.parametrize(
    "function, oracle",
    [(mvar_advantage, mvar_oracle), (risk_seeking_advantage, seeking_oracle)],
)
@quick
@given(scores=scores_8, one=numbers, other=numbers, omega=omegas)
def test_against_the_formula_case_by_case(function, oracle, scores, one, other, omega):
    a, b = min(one, other), max(one, other)
    found = function(scores.reshape(2, 4), a, b, omega)
    expected = [oracle(float(z), a, b, omega) for z in scores]
    np.testing.assert_allclose(found.reshape(-1), expected, atol=1e-4)


@quick
@given(scores=scores_8, one=numbers, other=numbers, omega=omegas)
def test_mvar_advantage_is_concave_and_not_positive(scores, one, other, omega):
    a, b = min(one, other), max(one, other)
    x, y = scores[:4], scores[4:]
    value_x, value_y, value_middle = (mvar_advantage(z, a, b, omega) for z in (x, y, (x + y) / 2))
    assert (np.concatenate([value_x, value_y]) <= 0).all()
    assert (value_middle >= (value_x + value_y) / 2 - 1e-4).all()


@pytest.mark.parametrize(
    "function, slopes",
    [
        (mvar_advantage, (1.5, 1.0, 0.0)),
        (risk_seeking_advantage, (0.0, 1.0, 1.5)),
        (risk_neutral_advantage, (1.0, 1.0, 1.0)),
    ],
)
def test_slopes_below_between_and_above_the_quantiles(function, slopes):
    slope = jax.vmap(jax.grad(lambda z: function(z, 1.0, 3.0, 0.5)))
    np.testing.assert_allclose(slope(jnp.array([0.5, 2.0, 3.5])), slopes)


@quick
@given(scores=scores_8, one=numbers, other=numbers, omega=omegas)
def test_risk_seeking_is_the_mirror_image(scores, one, other, omega):
    a, b = min(one, other), max(one, other)
    mirrored = -mvar_advantage(-scores, -b, -a, omega)
    np.testing.assert_allclose(risk_seeking_advantage(scores, a, b, omega), mirrored, atol=1e-4)


def test_risk_neutral_is_the_score():
    scores = jnp.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(risk_neutral_advantage(scores, 1.0, 2.0, 0.5), scores)


@quick
@given(scores=scores_8, omega=omegas)
def test_mean_advantage_is_the_risk_measure_up_to_its_quantiles(scores, omega):
    """E A(z) = MVaR - omega alpha q_alpha - beta q_beta, with split atoms."""
    alpha, beta = 0.2, 0.8
    a, b = risk.quantile(scores, alpha), risk.quantile(scores, beta)
    expected = risk.mvar(scores, alpha, beta, omega) - omega * alpha * a - beta * b
    found = mvar_advantage(scores, a, b, omega).mean()
    assert float(found) == pytest.approx(float(expected), abs=1e-4)


def test_mean_advantage_weights_are_the_gradient_of_mvar():
    """Theorem 1 on a categorical policy: d MVaR / d probabilities is A(z) up to a constant."""
    values = np.array([0.0, 1.0, 2.0, 3.0])
    logits = np.array([0.3, -0.2, 0.5, 0.1])
    alpha, beta, omega = 0.3, 0.85, 0.5

    def quantile_index(logits, level):
        return int(np.searchsorted(np.cumsum(softmax(logits)), level))

    def softmax(logits):
        return np.exp(logits) / np.exp(logits).sum()

    def measure(logits):
        cumulative = np.concatenate([[0], np.cumsum(softmax(logits))])

        def integral(a, b):
            return (np.diff(np.clip(cumulative, a, b)) * values).sum()

        return (1 + omega) * integral(0, alpha) + integral(alpha, beta)

    probabilities = softmax(logits)
    a, b = (values[quantile_index(logits, level)] for level in (alpha, beta))
    weights = np.array(mvar_advantage(jnp.array(values), a, b, omega), np.float64)
    expected = probabilities * (weights - probabilities @ weights)
    step = 1e-5 * np.eye(4)
    found = [(measure(logits + e) - measure(logits - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(found, expected, atol=1e-5)
