"""Small policies that make a point."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def policy_of_levels(
    log_weights_L: jax.Array, counts_L: Sequence[int]
) -> tuple[jax.Array, jax.Array]:
    """(logits [Y], rewards [Y]): level l has `counts_L[l]` responses of reward l, equally likely.

    So psi(l) is `log_weights_L[l]` up to one constant: its shape is free, and the counts decide how much
    probability a level has.
    """
    counts = jnp.asarray(counts_L)
    total = sum(counts_L)
    levels_Y = jnp.repeat(jnp.arange(len(counts_L)), counts, total_repeat_length=total)
    return log_weights_L[levels_Y], levels_Y.astype(log_weights_L.dtype)


def counterexample() -> tuple[jax.Array, jax.Array]:
    """(logits [3], rewards [3]): a policy that violates Assumption 1, and MVaR sharpens it more.

    A mediocre answer of probability 0.8 between a rare bad one and a rare good one of 0.1 each. The mean
    takes from the bad one what it gives to the good one, and loses no entropy to first order. MVaR
    sees the lower tail alone, pushes the bad answer down, 1 + omega times as hard, and ignores the
    good one.
    """
    return jnp.log(jnp.array([0.1, 0.8, 0.1])), jnp.array([0.0, 1.0, 2.0])


def mvar_moves_less() -> tuple[jax.Array, jax.Array]:
    """(logits [10], rewards [10]): Assumption 1 holds, and MVaR pays more entropy for its reward.

    At (0.2, 0.8) MVaR loses less entropy a step than the mean, as Theorem 2 says, because it moves less:
    more for every unit of reward gained, and more with both advantages scaled to unit variance.
    """
    return policy_of_levels(jnp.log(jnp.array([0.05, 0.145, 0.17])), (5, 4, 1))


def vanilla_reverses() -> tuple[jax.Array, jax.Array]:
    """(logits [12], rewards [12]): Assumption 1 holds, and a vanilla step with MVaR loses more entropy.

    At (0.2, 0.8). The covariance with pi A depends on more of the policy than psi.
    """
    return policy_of_levels(jnp.log(jnp.array([0.40, 0.07, 0.02, 0.15])), (1, 5, 5, 1))


def one_right_answer(
    pass_rates_B: jax.Array, wrong_shares_W: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(logits [B, 1 + W], rewards [B, 1 + W]): one right answer, of probability p_i in (0, 1).

    W wrong ones share the rest in the given positive parts, which sum to 1.
    """
    right_Bx1 = pass_rates_B[:, None]
    masses = jnp.concatenate([right_Bx1, (1 - right_Bx1) * wrong_shares_W[None, :]], axis=1)
    return jnp.log(masses), jnp.zeros_like(masses).at[:, 0].set(1)
