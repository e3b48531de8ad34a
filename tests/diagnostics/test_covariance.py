"""Covariances against exact expectations on tabular policies, and the two credits against each other."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.algorithms import bundles
from riskpo_jax.algorithms.mvar import mvar_advantage, risk_neutral_advantage
from riskpo_jax.diagnostics import covariance as cov

AVERSE = partial(mvar_advantage, q_alpha=1.0, q_beta=2.0, omega=0.5)


def answers(probs_BxY, K, G, seed):
    """int[K, B, G]: answers of the same B questions, K times over."""
    rng = np.random.default_rng(seed)
    B, Y = probs_BxY.shape
    return np.stack([rng.choice(Y, (K, G), p=probs_BxY[b]) for b in range(B)], axis=1)


@pytest.fixture(scope="module")
def policy():
    """(probabilities, rewards) [B = 3, Y = 4] of three questions of different difficulty."""
    rng = np.random.default_rng(5)
    logits = rng.normal(0, 1.5, (3, 4))
    probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return probs, np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 1]], float)


@pytest.fixture(scope="module")
def sampled(policy):
    """20,000 bundles of the same three questions, 4 responses each: independent draws."""
    probs, rewards = policy
    picked = answers(probs, K=20_000, G=4, seed=0)
    of = np.arange(3)[None, :, None]
    flat = lambda x: x.reshape(-1, 4).astype(np.float32)  # noqa: E731
    logprobs = flat(np.log(probs)[of, picked])
    arrays = (flat(rewards[of, picked]), logprobs, np.ones_like(logprobs))
    return cov.bundled(jax.random.key(1), *arrays, np.arange(60_000), 3, redraws=2)


def exact_covariance(policy, advantage_of):
    """Over all joint answers, per question."""
    probs, rewards = policy
    joint = list(itertools.product(range(4), repeat=3))
    p = np.array([np.prod([probs[b, y] for b, y in enumerate(ys)]) for ys in joint])
    z = np.array([sum(rewards[b, y] for b, y in enumerate(ys)) for ys in joint])
    a, logp = np.asarray(advantage_of(jnp.asarray(z))), np.log(p)
    return ((p * logp * a).sum() - (p * logp).sum() * (p * a).sum()) / 3


@pytest.mark.parametrize("profile", [AVERSE, lambda z: z], ids=["averse", "mean"])
@pytest.mark.parametrize("moments_of", [cov.uniform_moments, cov.expected_moments])
def test_both_credits_estimate_the_exact_covariance(policy, sampled, moments_of, profile):
    found = moments_of(sampled, profile).covariance
    error = found.std(ddof=1) / np.sqrt(len(found))
    assert abs(found.mean() - exact_covariance(policy, profile)) < 4 * error
    assert error < 0.005


def test_expected_credit_is_the_mean_over_all_permutations():
    """Of one small bundle: every pair of permutations of G = 3 for two questions."""
    rng = np.random.default_rng(2)
    rewards, logprobs = (
        rng.integers(0, 2, (2, 3)).astype(np.float32),
        rng.normal(size=(2, 3)).astype(np.float32),
    )
    surprise = cov.surprise(logprobs)
    values = []
    for first, second in itertools.product(itertools.permutations(range(3)), repeat=2):
        p = jnp.array([[first, second]])
        score, summed = (np.asarray(bundles.bundle_scores(x[None], p)) for x in (rewards, surprise))
        values.append((summed * np.asarray(AVERSE(score))).mean() / 2)
    one = cov.bundled(
        jax.random.key(0), rewards, logprobs, np.ones_like(rewards), np.arange(2), 2, 1
    )
    assert cov.expected_moments(one, AVERSE).covariance[0] == pytest.approx(
        np.mean(values), abs=1e-5
    )


def test_what_differs_between_questions_only_is_no_covariance():
    """Easy questions are answered surely: psi rises, and no entropy moves."""
    rewards = np.repeat([[1.0], [0.0]], 4, axis=1).repeat(10, axis=0).astype(np.float32)
    logprobs = rewards * 5 - 7
    order = np.random.default_rng(0).permutation(20)
    b = cov.bundled(jax.random.key(0), rewards, logprobs, np.ones_like(rewards), order, 5, 2)
    for moments_of in (cov.uniform_moments, cov.expected_moments):
        np.testing.assert_allclose(moments_of(b, AVERSE).covariance, 0, atol=1e-5)
    assert np.corrcoef(b.scores.ravel(), b.logprobs.ravel())[0, 1] > 0.99


def test_unit_size_ignores_scale_and_only_a_baseline_ignores_a_constant(sampled):
    def at(advantage_of, size):
        return size(
            cov.averaged(
                cov.uniform_moments(sampled, advantage_of), np.full((1, 20_000), 1 / 20_000)
            )
        )[0]

    scaled, shifted = (lambda z: 7 * AVERSE(z)), (lambda z: AVERSE(z) - 3)
    rms, deviation = cov.covariance_at_unit_rms, cov.covariance_at_unit_deviation
    assert at(scaled, rms) == pytest.approx(at(AVERSE, rms), rel=1e-4)
    assert at(shifted, deviation) == pytest.approx(at(AVERSE, deviation), rel=1e-2)
    assert at(shifted, rms) < 0.8 * at(AVERSE, rms)


def test_no_advantage_is_no_covariance(sampled):
    nothing = cov.Moments(*np.zeros((3, 1)))
    assert cov.covariance_at_unit_rms(nothing) == cov.covariance_at_unit_deviation(nothing) == 0
    neutral = partial(risk_neutral_advantage, q_alpha=0.0, q_beta=0.0, omega=0.0)
    assert (cov.expected_moments(sampled, neutral).square >= 0).all()
