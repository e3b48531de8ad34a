"""The keys and values that decoding reads: prompts once a question, responses in blocks of a timeline.

Letters: L layers, Q prompt slots, S response slots, K key-value heads, P prompt tokens, T tokens of a
block, D features a head. All responses are decoded in step, so that the token of a step lies at the same
place of the timeline for each of them; a response that began later sees nothing from before its begin.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp

from riskpo_jax.models.attention import KV
from riskpo_jax.sharding import take_rows


@flax.struct.dataclass
class Int8:
    """values: int8[..., D]. scale: float32[...]; the array is values * scale, to half a step of scale."""

    values: jax.Array
    scale: jax.Array


Stored = jax.Array | Int8


@flax.struct.dataclass
class Cache:
    """What decoding only reads, until the block that is being filled is full.

    prompts: KV [L, Q, K, P, D]. prompt_lengths: int32[Q], the tokens of each that may be seen.
    blocks: the full blocks of the timeline, each KV [L, S, K, T, D].
    """

    prompts: KV
    prompt_lengths: jax.Array
    blocks: tuple[KV, ...]


def store(x: jax.Array, dtype: jnp.dtype) -> Stored:
    """x in `dtype`; int8 keeps a scale for each token and head."""
    if dtype != jnp.int8:
        return x.astype(dtype)
    scale = jnp.max(jnp.abs(x.astype(jnp.float32)), axis=-1) / 127
    values = jnp.round(x / jnp.maximum(scale, jnp.finfo(jnp.float32).tiny)[..., None])
    return Int8(values.astype(jnp.int8), scale)


def store_kv(kv: KV, dtype: jnp.dtype) -> KV:
    return KV(store(kv.k, dtype), store(kv.v, dtype))


def take_cache_rows(kv: KV, rows_S: jax.Array, shards: int) -> KV:
    """The rows (axis 1) of every layer, counted within a shard."""
    return jax.tree.map(lambda x: jax.vmap(lambda layer: take_rows(layer, rows_S, shards))(x), kv)


def put_cache_rows(kv: KV, rows_A: jax.Array, new: KV, shards: int) -> KV:
    """`kv` with the rows (axis 1) replaced by those of `new`; a row beyond the last is dropped."""

    def put(whole: jax.Array, part: jax.Array) -> jax.Array:
        L = whole.shape[0]
        parts = whole.reshape(L, shards, -1, *whole.shape[2:])
        news = part.reshape(L, shards, -1, *part.shape[2:]).astype(whole.dtype)
        rows = rows_A.reshape(shards, -1)
        written = jax.vmap(
            lambda old, rows, new: old.at[:, rows].set(new, mode="drop"), (1, 0, 1), 1
        )(parts, rows, news)
        return written.reshape(whole.shape)

    return jax.tree.map(put, kv, new)
