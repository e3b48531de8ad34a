"""RiskPO's Assumption 1 and the inequality of its Theorem 2 (arXiv 2510.00911), made precise.

With both advantages in units of reward, slope 1 between the quantiles,

    A_mean(z) - A_MVaR(z) = q_beta + omega (q_alpha - z)+ + (z - q_beta)+,

so that, with psi(r) = E[log pi | R = r],

    Cov(log pi, A_mean) - Cov(log pi, A_MVaR)
        = omega E[(psi - E log pi) (q_alpha - R)+] + E[(psi - E log pi) (R - q_beta)+].

Theorem 2 says that this is not negative. It follows from psi >= E log pi on the open tails R < q_alpha
and R > q_beta alone; that psi is monotone there is not used. It does not survive a rescaling of either
advantage (to unit variance, say).

A policy is its S responses' log-probabilities and scores; a bundle's is over tuples (`bundle.py`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from riskpo_jax.theory.distribution import quantile
from riskpo_jax.theory.policy import covariance, expectation

# Equal log-probabilities may come out different by some roundings.
_TOLERANCE = 1e-9


def conditional_log_probability(log_masses_S: jax.Array, scores_S: jax.Array) -> jax.Array:
    """[S]: `psi(r) = E[log pi | R = r]` at the score of every response; equal scores share it."""
    same_SxS = scores_S[:, None] == scores_S[None, :]
    weights_SxS = jax.nn.softmax(jnp.where(same_SxS, log_masses_S[None, :], -jnp.inf), axis=-1)
    return weights_SxS @ log_masses_S


def tails_above_mean(
    log_masses_S: jax.Array, scores_S: jax.Array, alpha: float, beta: float
) -> jax.Array:
    """bool: `psi(r) >= E log pi` for every r < q_alpha and r > q_beta. What Theorem 2 needs."""
    q_alpha, q_beta = _quantiles(log_masses_S, scores_S, alpha, beta)
    mean = expectation(jnp.exp(log_masses_S), log_masses_S)
    above_S = conditional_log_probability(log_masses_S, scores_S) >= mean - _TOLERANCE
    in_middle_S = (scores_S >= q_alpha) & (scores_S <= q_beta)
    return (above_S | in_middle_S).all()


def tails_monotone(
    log_masses_S: jax.Array, scores_S: jax.Array, alpha: float, beta: float
) -> jax.Array:
    """bool: psi does not increase up to q_alpha and does not decrease from q_beta on."""
    q_alpha, q_beta = _quantiles(log_masses_S, scores_S, alpha, beta)
    order_S = jnp.argsort(scores_S)
    ordered_S = scores_S[order_S]
    rises = jnp.diff(conditional_log_probability(log_masses_S, scores_S)[order_S])
    falls_low = (rises <= _TOLERANCE) | (ordered_S[1:] > q_alpha)
    rises_high = (rises >= -_TOLERANCE) | (ordered_S[:-1] < q_beta)
    return (falls_low & rises_high).all()


def satisfies_assumption_1(
    log_masses_S: jax.Array, scores_S: jax.Array, alpha: float, beta: float
) -> jax.Array:
    """bool: psi is monotone on both tails, outwards upwards, and above its mean there.

    "Low" rewards are those up to q_alpha, "high" ones those from q_beta on.
    """
    policy_and_levels = log_masses_S, scores_S, alpha, beta
    return tails_monotone(*policy_and_levels) & tails_above_mean(*policy_and_levels)


def preserved_entropy(
    log_masses_S: jax.Array, scores_S: jax.Array, alpha: float, beta: float, omega: float
) -> tuple[jax.Array, jax.Array]:
    """(lower, upper): the two terms of `Cov(log pi, A_mean) - Cov(log pi, A_MVaR)`.

    Nats of entropy, for a natural-gradient step of size 1, that MVaR keeps and the mean loses by pushing
    harder on the lower tail and by leaving the upper one alone. Theorem 2: their sum is not negative.
    """
    q_alpha, q_beta = _quantiles(log_masses_S, scores_S, alpha, beta)
    masses_S = jnp.exp(log_masses_S)
    lower = covariance(masses_S, log_masses_S, jnp.maximum(q_alpha - scores_S, 0))
    upper = covariance(masses_S, log_masses_S, jnp.maximum(scores_S - q_beta, 0))
    return omega * lower, upper


def _quantiles(log_masses_S, scores_S, alpha, beta):
    masses_S = jnp.exp(log_masses_S)
    return quantile(scores_S, masses_S, alpha), quantile(scores_S, masses_S, beta)
