"""Which slots hold tokens, which position each has, and who may attend to whom.

A sequence is a left-padded prompt of P slots followed by a right-padded response of R slots.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp


def valid_slots(
    prompt_lengths_N: jax.Array, response_lengths_N: jax.Array, P: int, R: int
) -> jax.Array:
    """bool[N, P + R]: slot s holds a token when P - prompt_length <= s < P + response_length."""
    slots = jnp.arange(P + R)[None, :]
    return (slots >= P - prompt_lengths_N[:, None]) & (slots < P + response_lengths_N[:, None])


def positions_from_valid(valid_NxS: jax.Array) -> jax.Array:
    """int32[N, S]: the number of tokens before each slot; padding gets some position in range."""
    return jnp.maximum(jnp.cumsum(valid_NxS, axis=1, dtype=jnp.int32) - 1, 0)


def causal(
    valid_NxS: jax.Array, start: int | jax.Array = 0, queries: int | None = None
) -> jax.Array:
    """bool[N, T, S]: the token in slot start + t may attend to the valid slots up to its own.

    T = `queries`; by default all S slots ask. With a KV cache, `start` is the cache's index.
    """
    slots = jnp.arange(valid_NxS.shape[1])
    asking_T = start + jnp.arange(valid_NxS.shape[1] if queries is None else queries)
    return valid_NxS[:, None, :] & (slots[None, :] <= asking_T[:, None])[None]


def packed(segments_BxT: jax.Array) -> jax.Array:
    """bool[B, T, T]: `causal` for rows of several sequences, each of which sees only itself.

    segments: int, the same number for all tokens of a sequence, 0 for padding.
    """
    slots = jnp.arange(segments_BxT.shape[1])
    same_BxTxT = segments_BxT[:, :, None] == segments_BxT[:, None, :]
    return same_BxTxT & (segments_BxT > 0)[:, None, :] & (slots[None, :] <= slots[:, None])[None]


def positions_from_segments(segments_BxT: jax.Array) -> jax.Array:
    """int32[B, T]: the number of tokens before each slot in its own run of equal segments."""
    slots = jnp.arange(segments_BxT.shape[1], dtype=jnp.int32)[None, :]
    begins = jnp.diff(segments_BxT, axis=1, prepend=-1) != 0
    return slots - jax.lax.cummax(jnp.where(begins, slots, 0), axis=1)
