"""Bundles of B binary questions with known pass rates: scores, zero gradients, and weights.

With binary rewards the whole effect of a risk measure is one weight a question: the expected advantage
of a response is `w_i (s - p_i)`.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp


def pass_count_masses(pass_rates_B: jax.Array) -> jax.Array:
    """[B + 1]: the probability that 0, 1, ..., B of the bundle's questions are solved."""
    masses = jnp.ones(1, pass_rates_B.dtype)
    for pass_rate in pass_rates_B:
        masses = jnp.convolve(masses, jnp.stack([1 - pass_rate, pass_rate]))
    return masses


def all_equal_probability(masses_S: jax.Array, num_samples: int) -> jax.Array:
    """The probability that G independent draws from S distinct scores are all the same.

    Of a question's G responses (masses 1 - p and p): that GRPO gives it no gradient. Of a bundle's G
    samples: that their scores tell nothing apart.
    """
    return (masses_S**num_samples).sum()


def question_weights(
    pass_rates_B: jax.Array, advantage_fn: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """[B]: `w_i = E[A(z' + 1) - A(z')]`, z' the number of the OTHER questions that are solved.

    `advantage_fn` maps scores to advantages, elementwise. The mean's weights are 1.
    """
    scores = jnp.arange(pass_rates_B.size, dtype=pass_rates_B.dtype)
    slopes = advantage_fn(scores + 1) - advantage_fn(scores)
    others = [jnp.delete(pass_rates_B, i) for i in range(pass_rates_B.size)]
    return jnp.stack([(pass_count_masses(rates) * slopes).sum() for rates in others])
