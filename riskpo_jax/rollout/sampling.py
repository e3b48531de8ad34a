"""Drawing one token from logits."""

from __future__ import annotations

import math

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
    key_N: jax.Array, logits_NxV: jax.Array, sampling: SamplingParams
) -> tuple[jax.Array, jax.Array]:
    """One token a row, and its log-probability under the tempered distribution.

    The log-probability is that of softmax(logits / temperature) over the whole vocabulary, which is what
    the trainer computes, so that the first update's ratio is 1. top_k and top_p narrow the draw only;
    training with them is off-policy by the mass they cut. Greedy decoding reports temperature 1.

    Args:
      key_N: a key for each row, so that what a row draws does not depend on the rows beside it.

    Returns:
      int32[N] and float32[N].
    """
    logits_NxV = logits_NxV.astype(jnp.float32) / (sampling.temperature or 1.0)
    logits_NxV = logits_NxV - logits_NxV.max(axis=-1, keepdims=True)
    weights_NxV = jnp.exp(logits_NxV)
    if sampling.temperature:
        narrowed_NxV = keep_top_p(keep_top_k(logits_NxV, sampling.top_k), sampling.top_p)
        unchanged = narrowed_NxV is logits_NxV
        tokens_N = draw(key_N, weights_NxV if unchanged else jnp.exp(narrowed_NxV))
    else:
        tokens_N = jnp.argmax(logits_NxV, axis=-1)
    chosen_N = jnp.take_along_axis(logits_NxV, tokens_N[:, None], axis=-1)[:, 0]
    return tokens_N.astype(jnp.int32), chosen_N - jnp.log(weights_NxV.sum(axis=-1))


def draw(key_N: jax.Array, weights_NxV: jax.Array) -> jax.Array:
    """A token of each row with probability weights / sum(weights): inverse CDF, block first, token then.

    Two random numbers a row, where the Gumbel trick draws one for each token of the vocabulary; and the
    error of a float32 cumulative sum over the whole vocabulary does not arise.
    """
    N, V = weights_NxV.shape
    size = 2 ** math.ceil(math.log2(V) / 2)
    padded = jnp.pad(weights_NxV, ((0, 0), (0, -V % size)))
    weights_NxKxS = padded.reshape(N, -1, size)
    uniform_Nx2 = jax.vmap(lambda key: jax.random.uniform(key, (2,)))(key_N)
    block_N = _first_beyond(uniform_Nx2[:, 0], weights_NxKxS.sum(axis=-1))
    inside_NxS = jnp.take_along_axis(weights_NxKxS, block_N[:, None, None], axis=1)[:, 0]
    return block_N * size + _first_beyond(uniform_Nx2[:, 1], inside_NxS)


def _first_beyond(uniform_N: jax.Array, weights_NxK: jax.Array) -> jax.Array:
    """The first entry whose cumulative weight exceeds `uniform` times the total; never one of weight 0."""
    # A parallel sum may waver in its last bit where the weights are 0: such entries are left out.
    mass_NxK = jnp.where(weights_NxK > 0, jnp.cumsum(weights_NxK, axis=-1), 0)
    return jnp.argmax(mass_NxK > (uniform_N * mass_NxK.max(axis=-1))[:, None], axis=-1)


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
