"""The clipped surrogate, its ratios and penalties, and three ways to average over tokens.

Everything is per token, [N, T]. An average is a `Mean` (total, count): those of the micro-batches
add up, and one division at the end makes the loss independent of how the batch was cut.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from riskpo_jax.masked import Mean, masked_mean


def token_ratio(
    logprobs_NxT: jax.Array, behaviour_logprobs_NxT: jax.Array, mask_NxT: jax.Array
) -> jax.Array:
    """`r = pi(token) / pi_behaviour(token)` for each token, 1 outside the mask."""
    return jnp.exp(jnp.where(mask_NxT, logprobs_NxT - behaviour_logprobs_NxT, 0))


def sequence_ratio(
    logprobs_NxT: jax.Array, behaviour_logprobs_NxT: jax.Array, mask_NxT: jax.Array
) -> jax.Array:
    """[N, T]: `s = (pi(y) / pi_behaviour(y))^(1 / |y|)`, the same for all tokens of a sequence.

    GSPO (arXiv 2507.18071), equation 7: the exponential of the mean log-ratio over a sequence's
    tokens, so that a sequence is clipped as a whole. Rows without a token give 1.

    At s = 1 each token has the gradient A / |y| that `token_ratio` gives it under `sequence_mean`:
    with one update per rollout GSPO and GRPO coincide, and only later updates tell them apart.
    """
    log_ratio_NxT = jnp.where(mask_NxT, logprobs_NxT - behaviour_logprobs_NxT, 0)
    lengths_Nx1 = jnp.maximum(mask_NxT.sum(axis=-1, keepdims=True), 1)
    ratio_Nx1 = jnp.exp(log_ratio_NxT.sum(axis=-1, keepdims=True) / lengths_Nx1)
    return jnp.broadcast_to(ratio_Nx1, log_ratio_NxT.shape)


def clipped_surrogate(
    ratio_NxT: jax.Array, advantages_N: jax.Array, clip_low: float, clip_high: float
) -> jax.Array:
    """[N, T] objective to MAXIMISE: `min(r A, clip(r, 1 - clip_low, 1 + clip_high) A)`.

    PPO (arXiv 1707.06347), equation 7. The advantage of a sequence is that of all its tokens.
    `clip_high > clip_low` is DAPO's clip-higher (arXiv 2503.14476, section 3.1).
    """
    advantages_Nx1 = advantages_N[:, None]
    clipped_NxT = jnp.clip(ratio_NxT, 1 - clip_low, 1 + clip_high)
    return jnp.minimum(ratio_NxT * advantages_Nx1, clipped_NxT * advantages_Nx1)


def clipped(
    ratio_NxT: jax.Array, advantages_N: jax.Array, clip_low: float, clip_high: float
) -> jax.Array:
    """bool[N, T]: where `clipped_surrogate` is flat, so that the token gives no gradient."""
    advantages_Nx1 = advantages_N[:, None]
    too_high_NxT = (advantages_Nx1 > 0) & (ratio_NxT > 1 + clip_high)
    too_low_NxT = (advantages_Nx1 < 0) & (ratio_NxT < 1 - clip_low)
    return too_high_NxT | too_low_NxT


def kl_k3(logprobs_NxT: jax.Array, reference_logprobs_NxT: jax.Array) -> jax.Array:
    """[N, T] estimate of KL(pi || reference): `exp(d) - d - 1` with `d = log(reference / pi)`.

    For tokens sampled from pi. Schulman's k3 (joschu.net/blog/kl-approx.html): unbiased as a value
    and never negative.
    """
    difference_NxT = reference_logprobs_NxT - logprobs_NxT
    return jnp.expm1(difference_NxT) - difference_NxT


def token_mean(values_NxT: jax.Array, mask_NxT: jax.Array) -> Mean:
    """Mean over all the batch's tokens: long responses weigh more (DAPO, section 3.3)."""
    return masked_mean(values_NxT, mask_NxT)


def sequence_mean(values_NxT: jax.Array, mask_NxT: jax.Array) -> Mean:
    """Mean over sequences of the mean over their tokens (GRPO, arXiv 2402.03300, equation 3).

    Rows without a token do not count.
    """
    lengths_N = mask_NxT.sum(axis=-1)
    means_N = jnp.where(mask_NxT, values_NxT, 0).sum(axis=-1) / jnp.maximum(lengths_N, 1)
    return masked_mean(means_N, lengths_N > 0)


def constant_length_mean(values_NxT: jax.Array, mask_NxT: jax.Array, max_length: int) -> Mean:
    """Mean over sequences of the sum over their tokens, divided by `max_length`.

    Dr.GRPO (arXiv 2503.20783): a response's own length never divides, so that a wrong answer gains
    nothing from being long. Rows without a token do not count.
    """
    sums_N = jnp.where(mask_NxT, values_NxT, 0).sum(axis=-1) / max_length
    return masked_mean(sums_N, mask_NxT.any(axis=-1))
