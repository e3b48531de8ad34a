"""Measures of an exact distribution agree with those of samples that have just that distribution."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms import risk
from riskpo_jax.theory import distribution

quick = settings(deadline=None, max_examples=25)
# Five scores, some of them equal, with multiplicities: a sample of 20 is a distribution.
scores_5 = st.lists(st.integers(-4, 4), min_size=5, max_size=5).map(lambda x: np.array(x, float))
cuts = st.lists(st.integers(0, 20), min_size=4, max_size=4).map(sorted)
levels = st.integers(1, 19).map(lambda i: i / 20)

all_measures = jax.jit(
    lambda scores, masses, a, b: (
        distribution.quantile(scores, masses, a),
        distribution.rvar(scores, masses, a, b),
        distribution.cvar(scores, masses, b),
        distribution.mvar(scores, masses, a, b, 0.5),
    )
)
all_of_samples = jax.jit(
    lambda samples, a, b: (
        risk.quantile(samples, a),
        risk.rvar(samples, a, b),
        risk.cvar(samples, b),
        risk.mvar(samples, a, b, 0.5),
    )
)


@quick
@given(scores=scores_5, cut=cuts, one=levels, other=levels)
def test_against_samples(scores, cut, one, other):
    a, b = min(one, other), max(one, other) + 0.01
    counts = np.diff([0, *cut, 20])
    found = all_measures(jnp.array(scores), jnp.array(counts / 20), a, b)
    expected = all_of_samples(jnp.array(np.repeat(scores, counts)), a, b)
    np.testing.assert_allclose(found, expected, atol=1e-10)


def test_an_atom_is_split_by_mass():
    """Half of the mass lies on 1, from level 0.25 to 0.75, so that [0.5, 1] takes half of it."""
    scores, masses = jnp.array([1.0, 0.0, 2.0]), jnp.array([0.5, 0.25, 0.25])
    assert float(distribution.rvar(scores, masses, 0.5, 1.0)) == pytest.approx(1.5)
    assert float(distribution.cvar(scores, masses, 0.5)) == pytest.approx(0.5)


def test_mvar_is_two_lower_tails():
    """`omega alpha CVaR_alpha + beta CVaR_beta`, so that alpha is without effect at omega = 0."""
    draws = np.random.default_rng(0)
    scores, masses = draws.normal(size=9), draws.dirichlet(np.ones(9))
    lower_tail, measure = jax.jit(distribution.cvar), jax.jit(distribution.mvar)
    for alpha in (0.1, 0.3):
        parts = 0.7 * alpha * lower_tail(scores, masses, alpha) + 0.8 * lower_tail(
            scores, masses, 0.8
        )
        np.testing.assert_allclose(measure(scores, masses, alpha, 0.8, 0.7), parts, rtol=1e-12)


def test_mvar_of_the_whole_is_the_mean():
    scores, masses = jnp.array([3.0, -1.0, 0.5]), jnp.array([0.2, 0.5, 0.3])
    np.testing.assert_allclose(distribution.mvar(scores, masses, 0.4, 1.0, 0.0), scores @ masses)
