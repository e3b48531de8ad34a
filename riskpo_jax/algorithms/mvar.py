"""Advantages of a bundle score: the gradient weight of MVaR, its risk-seeking and neutral twins.

RiskPO (arXiv 2510.00911), Theorem 1: the gradient of a risk measure is E[A(z) grad log pi] with A
piecewise linear in the score z, bent at the quantiles. The three functions share one signature, so
one replaces another.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def mvar_advantage(
    scores: jax.Array,
    q_alpha: jax.Array | float,
    q_beta: jax.Array | float,
    omega: jax.Array | float,
) -> jax.Array:
    """`A(z) = -(1 + omega) (q_alpha - z)+ + clip(z, q_alpha, q_beta) - q_beta`, elementwise.

    Scores of any shape, scalar quantiles `q_alpha <= q_beta`, `omega >= 0`. Never positive,
    concave: slope 1 + omega below q_alpha, 1 up to q_beta, 0 above.
    """
    lower_tail = -jnp.maximum(q_alpha - scores, 0)
    middle = jnp.clip(scores, q_alpha, q_beta) - q_beta
    return (1 + omega) * lower_tail + middle


def risk_seeking_advantage(
    scores: jax.Array,
    q_alpha: jax.Array | float,
    q_beta: jax.Array | float,
    omega: jax.Array | float,
) -> jax.Array:
    """`A(z) = (1 + omega) (z - q_beta)+ + clip(z, q_alpha, q_beta) - q_alpha`, elementwise.

    The mirror image of `mvar_advantage`, which weights the upper tail. Never negative, convex:
    slope 0 below q_alpha, 1 up to q_beta, 1 + omega above.
    """
    upper_tail = jnp.maximum(scores - q_beta, 0)
    middle = jnp.clip(scores, q_alpha, q_beta) - q_alpha
    return (1 + omega) * upper_tail + middle


def risk_neutral_advantage(
    scores: jax.Array,
    q_alpha: jax.Array | float,
    q_beta: jax.Array | float,
    omega: jax.Array | float,
) -> jax.Array:
    """`A(z) = z`: the gradient weight of the mean, slope 1 everywhere.

    `q_alpha`, `q_beta` and `omega` are unused; they are here so that the three advantages are
    interchangeable.
    """
    del q_alpha, q_beta, omega
    return scores
