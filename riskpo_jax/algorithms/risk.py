"""Risk measures of samples: VaR, CVaR, RVaR and MVaR.

Each is an integral of the empirical quantile function F^-1, so an atom that straddles a level is
split by probability mass, and the parts of the distribution always sum to its mean (RiskPO, arXiv
2510.00911).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

# In float32 0.15 * 100 is above 15, and must not become rank 16.
_RANK_TOLERANCE = 1e-6


def quantile(samples_N: jax.Array, level: jax.Array | float) -> jax.Array:
    """Lower inverse CDF `F^-1(p) = inf {x : F(x) >= p}`: the ceil(p N)-th smallest sample.

    Samples of any shape count as N. `level` in [0, 1] may be an array; the result has its shape.
    Level 0 gives the minimum.
    """
    ordered_N = jnp.sort(samples_N, axis=None)
    rank = jnp.ceil(jnp.asarray(level) * ordered_N.size * (1 - _RANK_TOLERANCE)).astype(jnp.int32)
    return ordered_N[jnp.clip(rank - 1, 0, ordered_N.size - 1)]


def rvar(samples_N: jax.Array, lower: jax.Array | float, upper: jax.Array | float) -> jax.Array:
    """Range value at risk `RVaR[a:b] = 1/(b - a) * integral_a^b F^-1(u) du`, a scalar.

    Samples of any shape count as N; `0 <= lower < upper <= 1`. The n-th smallest sample is the
    quantile function on ((n-1)/N, n/N], so it weighs as much as that interval shares with [a, b].
    """
    ordered_N = jnp.sort(samples_N, axis=None)
    edges = jnp.arange(ordered_N.size + 1) / ordered_N.size
    mass_N = jnp.diff(jnp.clip(edges, lower, upper))
    return (mass_N * ordered_N).sum() / (upper - lower)


def var(samples_N: jax.Array, level: jax.Array | float) -> jax.Array:
    """Value at risk: the quantile at `level`, by its name in finance."""
    return quantile(samples_N, level)


def cvar(samples_N: jax.Array, alpha: jax.Array | float) -> jax.Array:
    """Conditional value at risk of the lower tail, `RVaR[0:alpha]`, for `0 < alpha <= 1`."""
    return rvar(samples_N, 0.0, alpha)


def mvar(
    samples_N: jax.Array,
    alpha: jax.Array | float,
    beta: jax.Array | float,
    omega: jax.Array | float,
) -> jax.Array:
    """Mixed value at risk `(1 + omega) alpha RVaR[0:alpha] + (beta - alpha) RVaR[alpha:beta]`.

    RiskPO's objective, for `0 < alpha < beta <= 1`, `omega >= 0`. At omega = 0, beta = 1 it is the
    mean.
    """
    lower_tail = alpha * rvar(samples_N, 0.0, alpha)
    middle = (beta - alpha) * rvar(samples_N, alpha, beta)
    return (1 + omega) * lower_tail + middle
