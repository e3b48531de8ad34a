"""Drawing one token from logits."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class SamplingParams:
    """How the next token is drawn; hashable, so it can be a static argument.

    temperature: 0 is greedy. top_k: 0 is off. top_p: 1 is off.
    """

    temperature: float = flax.struct.field(pytree_node=False, default=1.0)
    top_k: int = flax.struct.field(pytree_node=False, default=0)
    top_p: float = flax.struct.field(pytree_node=False, default=1.0)


@jax.named_scope("sampling")
def sample_token(
    key: jax.Array, logits_NxV: jax.Array, sampling: SamplingParams
) -> tuple[jax.Array, jax.Array]:
    """One token a row, and its log-probability under the tempered distribution.

    The log-probability is that of softmax(logits / temperature) over the whole vocabulary, which is what
    the trainer computes, so that the first update's ratio is 1. top_k and top_p narrow the draw only;
    training with them is off-policy by the mass they cut. Greedy decoding reports temperature 1.

    Returns:
      int32[N] and float32[N].
    """
    logits_NxV = logits_NxV.astype(jnp.float32)
    if sampling.temperature:
        logits_NxV = logits_NxV / sampling.temperature
        narrowed = keep_top_p(keep_top_k(logits_NxV, sampling.top_k), sampling.top_p)
        tokens_N = jax.random.categorical(key, narrowed, axis=-1)
    else:
        tokens_N = jnp.argmax(logits_NxV, axis=-1)
    logprobs_NxV = jax.nn.log_softmax(logits_NxV, axis=-1)
    chosen_N = jnp.take_along_axis(logprobs_NxV, tokens_N[:, None], axis=-1)[:, 0]
    return tokens_N.astype(jnp.int32), chosen_N


def keep_top_k(logits_NxV: jax.Array, k: int) -> jax.Array:
    """-inf outside the k largest logits of a row (ties with the k-th stay); k = 0 keeps all."""
    if not 0 < k < logits_NxV.shape[-1]:
        return logits_NxV
    smallest_N = jax.lax.top_k(logits_NxV, k)[0][:, -1]
    return jnp.where(logits_NxV >= smallest_N[:, None], logits_NxV, -jnp.inf)


def keep_top_p(logits_NxV: jax.Array, p: float) -> jax.Array:
    """-inf outside the nucleus: the likeliest tokens until their mass reaches p (1904.09751).

    The likeliest token always stays; p = 1 keeps all.
    """
    if p >= 1:
        return logits_NxV
    descending_NxV = -jnp.sort(-logits_NxV, axis=-1)
    probs_NxV = jax.nn.softmax(descending_NxV, axis=-1)
    mass_before_NxV = jnp.cumsum(probs_NxV, axis=-1) - probs_NxV
    inside_NxV = mass_before_NxV < p
    smallest_N = jnp.min(jnp.where(inside_NxV, descending_NxV, jnp.inf), axis=-1)
    return jnp.where(logits_NxV >= smallest_N[:, None], logits_NxV, -jnp.inf)
