"""Group-relative baselines: the rewards of a question's G responses give their advantages.

Rewards are [Q, G]; further leading axes (as in [K, B, G]) are batch axes.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from riskpo_jax.algorithms.bundles import subtract_leave_one_out_mean, subtract_mean

_EPSILON = 1e-6


def grpo(rewards_QxG: jax.Array) -> jax.Array:
    """`(r - mean r) / (std r + 1e-6)` with the ddof = 1 standard deviation (arXiv 2402.03300).

    The constant and the ddof are those of verl. Equal rewards, and a single response, give 0.
    """
    centred_QxG = subtract_mean(rewards_QxG, -1)
    degrees_of_freedom = max(rewards_QxG.shape[-1] - 1, 1)
    variance_Qx1 = (centred_QxG**2).sum(axis=-1, keepdims=True) / degrees_of_freedom
    return centred_QxG / (jnp.sqrt(variance_Qx1) + _EPSILON)


def dr_grpo(rewards_QxG: jax.Array) -> jax.Array:
    """`r - mean r`: GRPO without the bias of dividing by the spread (arXiv 2503.20783)."""
    return subtract_mean(rewards_QxG, -1)


def rloo(rewards_QxG: jax.Array) -> jax.Array:
    """`r - mean of the other responses' r` (arXiv 2402.14740). A single response gives 0."""
    return subtract_leave_one_out_mean(rewards_QxG, -1)
