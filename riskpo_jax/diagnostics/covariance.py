"""Cov(log pi, A): to first order, how much entropy a step along an advantage costs.

A natural-gradient step, logits += eta A, changes the entropy of a softmax policy by -eta Cov(log pi(y|x),
A(y)) + O(eta^2) (RiskPO's Proposition 1; arXiv 2505.22617). Entropy is that of the answers to one
question, so the covariance is the one among the answers to the same question (or the same bundle of
questions), averaged over questions. What differs between questions, how sure the policy is of an easy
one, moves psi but no entropy.

All covariances are per question: that of a bundle's sample, whose log-probability is the sum of B, over B.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from riskpo_jax.algorithms import bundles

AdvantageOfScore = Callable[[jax.Array], jax.Array]


class Bundled(NamedTuple):
    """The responses to K bundles of B questions, and S samples of each bundle drawn from them.

    rewards, surprise [K, B, G], scores, logprobs, lengths, surprise_S [K, S]. `surprise` is a response's
    log-probability minus the mean of the question's other responses, which estimates log pi - E[log pi |
    question] without bias; `surprise_S` is its sum over a bundle sample.
    """

    rewards: np.ndarray
    surprise: np.ndarray
    scores: np.ndarray
    logprobs: np.ndarray
    lengths: np.ndarray
    surprise_S: np.ndarray


class Moments(NamedTuple):
    """Of each of K bundles: the covariance per question in nats, and what the advantages' size is from."""

    covariance: np.ndarray
    advantage: np.ndarray
    square: np.ndarray


def surprise(logprobs_MxG: np.ndarray) -> np.ndarray:
    """Log-probabilities minus the mean of the OTHER responses to the same question; G >= 2."""
    return np.asarray(bundles.subtract_leave_one_out_mean(jnp.asarray(logprobs_MxG), -1))


def bundled(
    key: jax.Array,
    rewards_MxG: np.ndarray,
    logprobs_MxG: np.ndarray,
    lengths_MxG: np.ndarray,
    order: np.ndarray,
    bundle_size: int,
    redraws: int,
) -> Bundled:
    """Bundles the questions in `order` (K * B of the M), and draws the permutations `redraws` times.

    A draw makes G samples of a bundle, every response in one; more draws use the same responses better.
    """

    def rows(values_MxG: np.ndarray) -> jax.Array:
        chosen = jnp.asarray(values_MxG[order])
        return bundles.to_bundles(chosen, jnp.arange(len(order)), bundle_size)

    rewards_KxBxG, logprobs_KxBxG = rows(rewards_MxG), rows(logprobs_MxG)
    lengths_KxBxG, surprise_KxBxG = rows(lengths_MxG), rows(surprise(logprobs_MxG))
    permutations = [
        bundles.draw_permutations(k, rewards_KxBxG.shape) for k in jax.random.split(key, redraws)
    ]

    def samples(values_KxBxG: jax.Array) -> np.ndarray:
        sums = [bundles.bundle_scores(values_KxBxG, p) for p in permutations]
        return np.asarray(jnp.concatenate(sums, axis=1))

    return Bundled(
        rewards=np.asarray(rewards_KxBxG),
        surprise=np.asarray(surprise_KxBxG),
        scores=samples(rewards_KxBxG),
        logprobs=samples(logprobs_KxBxG),
        lengths=samples(lengths_KxBxG),
        surprise_S=samples(surprise_KxBxG),
    )


def uniform_moments(b: Bundled, advantage_of: AdvantageOfScore) -> Moments:
    """Credit uniform: a bundle sample's advantage goes to all its responses."""
    advantages_KxS = np.asarray(advantage_of(jnp.asarray(b.scores)))
    bundle_size = b.rewards.shape[1]
    return Moments(
        covariance=(b.surprise_S * advantages_KxS).mean(axis=1) / bundle_size,
        advantage=advantages_KxS.mean(axis=1),
        square=(advantages_KxS**2).mean(axis=1),
    )


def expected_moments(b: Bundled, advantage_of: AdvantageOfScore) -> Moments:
    """Credit expected, with the question's leave-one-out mean as its baseline.

    The covariance is the mean of `uniform_moments`' over all permutations.
    """
    advantages_KxBxG = bundles.expected_credit(jnp.asarray(b.rewards), advantage_of)
    centred_KxBxG = np.asarray(bundles.subtract_leave_one_out_mean(advantages_KxBxG, -1))
    return Moments(
        covariance=(b.surprise * np.asarray(advantages_KxBxG)).mean(axis=(1, 2)),
        advantage=centred_KxBxG.mean(axis=(1, 2)),
        square=(centred_KxBxG**2).mean(axis=(1, 2)),
    )


def averaged(moments: Moments, weights_DxK: np.ndarray) -> Moments:
    """The moments over bundles, for each of D weightings."""
    return Moments(*(weights_DxK @ values for values in moments))


def covariance(m: Moments) -> np.ndarray:
    """As Theorem 2 has it, with the advantage as it is. A constant added to it changes nothing."""
    return m.covariance


def covariance_at_unit_rms(m: Moments) -> np.ndarray:
    """Of the advantages over their root mean square: for optimisers like Adam, which ignore their scale."""
    return _over(m.covariance, np.sqrt(m.square))


def covariance_at_unit_deviation(m: Moments) -> np.ndarray:
    """As `covariance_at_unit_rms`, with the batch's mean as a baseline (algorithm.baseline=mean)."""
    return _over(m.covariance, np.sqrt(np.maximum(m.square - m.advantage**2, 0)))


def _over(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """0 where the advantages are all 0, and with them the covariance."""
    return np.where(scale > 1e-6, values / np.where(scale > 1e-6, scale, 1), 0)
