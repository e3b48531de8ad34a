"""The keys and values of the tokens so far, as an explicit pytree."""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp
from jax import lax

from riskpo_jax.models.config import DecoderConfig


@flax.struct.dataclass
class KVCache:
    """Keys and values of every layer, a slot a token.

    k, v: [L, B, S, Hkv, D]. index: int32 scalar, the next slot to write, the same for all rows
    (rows of different length are left-padded).
    """

    k: jax.Array
    v: jax.Array
    index: jax.Array


def init_cache(config: DecoderConfig, batch: int, slots: int, dtype=jnp.float32) -> KVCache:
    """An empty cache for `batch` rows of at most `slots` tokens."""
    shape = (config.num_layers, batch, slots, config.num_kv_heads, config.head_dim)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.zeros((), jnp.int32))


def write(cache: KVCache, layer: jax.Array, k_BxTxKxD: jax.Array, v_BxTxKxD: jax.Array) -> KVCache:
    """Puts T tokens of one layer at slots index..index+T; `index` moves when all layers are done.

    The caller keeps index + T <= S: beyond it XLA clamps the start and overwrites older slots.
    """
    start = (layer, 0, cache.index, 0, 0)

    def put(whole, new):
        return lax.dynamic_update_slice(whole, new[None].astype(whole.dtype), start)

    return cache.replace(k=put(cache.k, k_BxTxKxD), v=put(cache.v, v_BxTxKxD))


def read(cache: KVCache, layer: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Keys and values of one layer, each [B, S, Hkv, D]."""
    return tuple(lax.dynamic_index_in_dim(x, layer, keepdims=False) for x in (cache.k, cache.v))
