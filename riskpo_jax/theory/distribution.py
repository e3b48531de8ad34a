"""Quantiles and risk measures of an exactly known discrete distribution.

A distribution is S scores and their S masses, in any order; a score may occur several times. As in
`algorithms/risk.py`, which has them for samples, each measure integrates the quantile function, so an
atom that straddles a level is split by mass (RiskPO, arXiv 2510.00911).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def quantile(scores_S: jax.Array, masses_S: jax.Array, level: float) -> jax.Array:
    """Lower inverse CDF `F^-1(p) = inf {z : F(z) >= p}`, a scalar."""
    order_S = jnp.argsort(scores_S)
    # A sum of masses that ought to be the level may come out a few roundings below it.
    roundings = 8 * jnp.finfo(masses_S.dtype).eps
    reached_S = jnp.cumsum(masses_S[order_S]) >= level - roundings
    return scores_S[order_S][jnp.argmax(reached_S)]


def rvar(scores_S: jax.Array, masses_S: jax.Array, lower: float, upper: float) -> jax.Array:
    """`RVaR[a:b] = 1/(b - a) * integral_a^b F^-1(u) du`, a scalar, for `0 <= a < b <= 1`.

    Differentiable in the masses wherever neither level is a value of the CDF.
    """
    order_S = jnp.argsort(scores_S)
    reached_S = jnp.cumsum(masses_S[order_S])
    edges = jnp.concatenate([jnp.zeros_like(reached_S[:1]), reached_S])
    shares_S = jnp.diff(jnp.clip(edges, lower, upper))
    return (shares_S * scores_S[order_S]).sum() / (upper - lower)


def cvar(scores_S: jax.Array, masses_S: jax.Array, alpha: float) -> jax.Array:
    """The mean of the lower tail, `RVaR[0:alpha]`."""
    return rvar(scores_S, masses_S, 0.0, alpha)


def mvar(
    scores_S: jax.Array, masses_S: jax.Array, alpha: float, beta: float, omega: float
) -> jax.Array:
    """`(1 + omega) alpha RVaR[0:alpha] + (beta - alpha) RVaR[alpha:beta]`, a scalar.

    The same as `omega alpha CVaR_alpha + beta CVaR_beta`: at omega = 0 it does not depend on alpha.
    """
    lower_tail = alpha * cvar(scores_S, masses_S, alpha)
    middle = (beta - alpha) * rvar(scores_S, masses_S, alpha, beta)
    return (1 + omega) * lower_tail + middle
