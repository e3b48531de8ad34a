"""The sampled gradient of a bundle against the exact one: both credits have it as their expectation."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.algorithms.mvar import mvar_advantage
from riskpo_jax.theory import sampling
from riskpo_jax.theory.bundle import expected_gradient

UTILITY = partial(mvar_advantage, q_alpha=1.0, q_beta=2.0, omega=0.5)
REWARDS = jnp.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1]], jnp.float32)
LOGITS = jax.random.normal(jax.random.key(3), (3, 4), jnp.float32)
CREDITS = {"uniform": sampling.uniform_credit, "expected": sampling.expected_credit}


@pytest.fixture(scope="module")
def drawn():
    """credit -> [N, B, Y]: gradients of 40,000 independent rollout batches, G = 8."""

    @partial(jax.jit, static_argnums=1)
    def many(keys, credit):
        sampled = partial(
            sampling.sampled_gradient,
            logits_BxY=LOGITS,
            rewards_BxY=REWARDS,
            credit=CREDITS[credit](UTILITY),
            group_size=8,
        )
        return jax.vmap(sampled)(keys)

    keys = jax.random.split(jax.random.key(0), 40_000)
    return {name: np.asarray(many(keys, name), np.float64) for name in CREDITS}


@pytest.mark.parametrize("credit", CREDITS)
def test_sampled_gradients_average_to_the_exact_one(drawn, credit):
    exact = np.asarray(expected_gradient(LOGITS, REWARDS, UTILITY))
    errors = drawn[credit].std(axis=0, ddof=1) / np.sqrt(len(drawn[credit]))
    assert (np.abs(drawn[credit].mean(axis=0) - exact) < 4.5 * errors + 1e-6).all()
    assert np.abs(exact).max() > 20 * errors.max()


def test_expected_credit_is_less_noisy(drawn):
    """Rao-Blackwell: the luck of which strangers share a bundle sample is gone, and the baseline helps."""
    ratio = sampling.noise(drawn["uniform"]) / sampling.noise(drawn["expected"])
    assert ratio > 2
