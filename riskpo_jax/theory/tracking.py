"""What the quantile tracker of `algorithms/quantiles.py` does on average, and how far it is off.

`q <- q + gamma (p - 1{z < q})` moves in the mean by `gamma (p - F(q))`. Near the quantile, where F has
the density f, the error shrinks by `1 - gamma f` a step; a distribution that moves leaves it behind, and
samples shake it. RiskPO's two time scales, eta_k / gamma_k -> 0, are the statement that the lag vanishes.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def mean_field(
    cdf: Callable[[jax.Array], jax.Array],
    level: float,
    start: float,
    step_sizes_K: jax.Array,
    locations_K: jax.Array,
) -> jax.Array:
    """[K]: the values after each step of `q <- q + gamma_k (p - F(q - location_k))`.

    The recursion without its noise: exactly the expected value where F is affine over the range of q. The
    distribution keeps its shape, F = `cdf`, and is at `locations_K` step by step.
    """

    def one(value, step_size_and_location):
        step_size, location = step_size_and_location
        value = value + step_size * (level - cdf(value - location))
        return value, value

    start = jnp.asarray(start, step_sizes_K.dtype)
    return jax.lax.scan(one, start, (step_sizes_K, locations_K))[1]


def lag(drift: jax.Array, step_size: jax.Array, density: float) -> jax.Array:
    """How far the tracker trails a distribution that moves by `drift` a step: `v / (gamma f)`.

    With a policy's step eta_k as the drift and gamma_k as the step size it goes to 0 exactly when
    eta_k / gamma_k does.
    """
    return drift / (step_size * density)


def stationary_variance(
    step_size: jax.Array, level: float, density: float, batch_size: int
) -> jax.Array:
    """`gamma p (1 - p) / (f M (2 - gamma f))`: how much M samples a step shake the tracked value.

    For a constant step size and a CDF that is affine around the quantile; `0 < gamma f < 2`.
    """
    noise = level * (1 - level) / batch_size
    return step_size * noise / (density * (2 - step_size * density))
