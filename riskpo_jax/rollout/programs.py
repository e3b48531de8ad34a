"""What the devices do for a rollout, as jitted functions, each compiled once for a shape and setting."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from riskpo_jax.models.attention import KV, Attention, xla
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.partitioning import placed_shapes
from riskpo_jax.models.prompts import kv_sharding, read_prompts
from riskpo_jax.rollout.cache import Int8, Stored, put_cache_rows, store_kv, take_cache_rows
from riskpo_jax.rollout.decode import decode
from riskpo_jax.sharding import batch_sharding, data_shards, replicated
from riskpo_jax.types import Prompts


class Programs:
    """The programs of one model on one mesh.

    Attributes:
      block: places of the timeline in one block. width: tokens decoded in one call at most.
      params: what decoding reads, as ShapeDtypeStructs with shardings.
      move: params -> the same as decoding reads them: placed for `mesh`, matrices in the compute type.
      read: (params, prompts) -> KV [L, A, K, P, D] of A prompts.
      put: (prompts KV, rows, new KV) -> the KV with those of new prompts in their slots.
      take: (KV, rows) -> the KV of some slots, counted within their shard.
      close: a full block -> as it is kept.
      keys: (raw data of a key, numbers[S]) -> key[S], of each response.
      decode: see `rollout.decode`.
    """

    def __init__(
        self,
        model: Decoder,
        mesh: Mesh,
        *,
        longest: int,
        eos_ids: tuple[int, ...],
        attention: Attention = xla,
        steps_per_sync: int = 16,
        kv_dtype: jnp.dtype | None = None,
    ):
        """longest: tokens of a response at most. kv_dtype: of prompts and full blocks; int8 has scales."""
        kv_dtype = jnp.dtype(kv_dtype or model.dtype)
        self.model, self.mesh, self.kv_dtype = model, mesh, kv_dtype
        self.longest, self.eos_ids = longest, eos_ids
        self.shards = data_shards(mesh)
        # Eight blocks, or fewer where those would be short.
        self.block = max(32, -(-longest // (8 * 32)) * 32)
        self.width = min(steps_per_sync, self.block)
        self.kv_sharding = kv_sharding(model.config, mesh)
        self.params = jax.tree_util.tree_map_with_path(
            partial(_as_read, model.dtype), placed_shapes(model, mesh)
        )
        self.move = jax.jit(
            lambda params: jax.tree.map(lambda x, w: x.astype(w.dtype), params, self.params),
            out_shardings=jax.tree.map(lambda w: w.sharding, self.params),
        )
        in_place = partial(jax.jit, out_shardings=self.kv_sharding)
        self.read = in_place(partial(_read, model, attention, kv_dtype))
        self.put = in_place(partial(put_cache_rows, shards=self.shards), donate_argnums=0)
        self.take = in_place(partial(take_cache_rows, shards=self.shards))
        self.close = in_place(partial(store_kv, dtype=kv_dtype))
        if kv_dtype == model.dtype:
            self.close = lambda block: block
        self.keys = jax.jit(_response_keys, out_shardings=batch_sharding(mesh))
        self.decode = jax.jit(
            partial(decode, model, width=self.width, eos_ids=eos_ids, shards=self.shards),
            static_argnames="sampling",
            donate_argnums=2,
            out_shardings=(self.kv_sharding, batch_sharding(mesh), replicated(mesh)),
        )

    def lay_out(self, params: Any) -> Any:
        """`params` as decoding reads them: the very arrays where there is nothing to change."""
        return params if self.laid_out(params) else self.move(params)

    def laid_out(self, params: Any) -> bool:
        """Whether decoding reads `params`, arrays or ShapeDtypeStructs with shardings, as they are."""
        same = jax.tree.map(
            lambda x, w: x.dtype == w.dtype and x.sharding.is_equivalent_to(w.sharding, x.ndim),
            params,
            self.params,
        )
        return jax.tree.all(same)

    @staticmethod
    def slot_counts(slots: int) -> tuple[int, ...]:
        """The slots a shard may have when it needs fewer than `slots`, ascending: halves, down to 4."""
        counts = [slots]
        while counts[-1] > 4:
            counts.append(-(-counts[-1] // 2))
        return tuple(reversed(counts))

    def empty(self, rows: int, length: int, dtype: jnp.dtype | None = None) -> KV:
        """Keys and values of no token, [L, rows, K, length, D]; `dtype` is that of the cache unless given."""
        c, dtype = self.model.config, dtype or self.kv_dtype
        shape = (c.num_layers, rows, c.num_kv_heads, length, c.head_dim)
        zeros = partial(jnp.zeros, device=self.kv_sharding)

        def stored() -> Stored:
            return (
                Int8(zeros(shape, dtype), zeros(shape[:-1]))
                if dtype == jnp.int8
                else zeros(shape, dtype)
            )

        return KV(stored(), stored())


def _as_read(dtype: jnp.dtype, path: tuple, leaf: jax.ShapeDtypeStruct) -> jax.ShapeDtypeStruct:
    """A parameter as decoding wants it. Scales stay as they are: norms are computed in float32."""
    dtype = leaf.dtype if path[-1].key == "scale" else dtype
    return jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.sharding)


def _read(model: Decoder, attention: Attention, kv_dtype, params: Any, prompts: Prompts) -> KV:
    return store_kv(read_prompts(model, params, prompts, attention).kv, kv_dtype)


def _response_keys(key_data: jax.Array, numbers_S: jax.Array) -> jax.Array:
    key = jax.random.wrap_key_data(key_data)
    return jax.vmap(jax.random.fold_in, (None, 0))(key, numbers_S)
