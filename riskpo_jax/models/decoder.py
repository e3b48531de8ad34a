"""A decoder-only transformer in Flax Linen: Qwen2 (2407.10671), Qwen3 (2505.09388), Llama 3 (2407.21783).

Letters: B rows, T query tokens, S slots attended to, M model width, H query heads, K key-value
heads, G = H / K queries a key, D features a head, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from riskpo_jax.models import kv_cache, rope
from riskpo_jax.models import lora as lora_lib
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.kv_cache import KVCache
from riskpo_jax.models.lora import Lora
from riskpo_jax.models.unembed import unembed

Axes = tuple[tuple[str, int], ...]  # logical name and size of each


def attend(q_BxTxHxD: jax.Array, k_BxSxKxD: jax.Array, v_BxSxKxD: jax.Array, mask_BxTxS: jax.Array):
    """softmax(q k / sqrt(D)) v under the mask, [B, T, H, D]; query head h reads key head h // G.

    The softmax is in float32. A query that may attend to nothing gets the mean of the values,
    not NaN.
    """
    B, T, H, D = q_BxTxHxD.shape
    S, K = k_BxSxKxD.shape[1:3]

    def by_key_head(x: jax.Array) -> jax.Array:
        """[B, T, K * G, D] -> [B, K, T * G, D]: the G queries of a key stand side by side."""
        return x.reshape(B, x.shape[1], K, -1, D).swapaxes(1, 2).reshape(B, K, -1, D)

    q, k, v = map(by_key_head, (q_BxTxHxD * D**-0.5, k_BxSxKxD, v_BxSxKxD))
    scores = jnp.einsum("bkqd,bksd->bkqs", q, k, preferred_element_type=jnp.float32)
    scores = scores.reshape(B, K, T, H // K, S)
    scores = jnp.where(mask_BxTxS[:, None, :, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(v.dtype).reshape(B, K, -1, S)
    y = jnp.einsum("bkqs,bksd->bkqd", weights, v)
    return y.reshape(B, K, T, H // K, D).swapaxes(1, 2).reshape(B, T, H, D)


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32 (1910.07467)."""

    eps: float
    param_dtype: jnp.dtype
    axis: str = "embed"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.ones, (self.axis,))
        scale = self.param("scale", init, x.shape[-1:], self.param_dtype).astype(jnp.float32)
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return (y * scale.reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


class _Block(nn.Module):
    """What attention and feed-forward share: the config and the linear map."""

    config: DecoderConfig
    dtype: jnp.dtype
    param_dtype: jnp.dtype
    lora: Lora | None

    def linear(
        self, name: str, x: jax.Array, inputs: Axes, outputs: Axes, bias: bool = False
    ) -> jax.Array:
        """x W + b over the last `inputs` axes of x, and the low-rank update where it is adapted."""
        normal = nn.initializers.normal(self.config.initializer_range)
        n, zeros = len(inputs), nn.initializers.zeros
        y = jnp.tensordot(x, self.weight(name, normal, inputs + outputs), n)
        if bias:
            b = self.weight(f"{name}_bias", zeros, outputs)
            y = y + b.reshape((1,) * (y.ndim - b.ndim) + b.shape)
        if self.lora and name in self.lora.matrices:
            rank = (("rank", self.lora.rank),)
            a = self.weight(name + lora_lib.A, lora_lib.init_a, inputs + rank, jnp.float32)
            b = self.weight(name + lora_lib.B, zeros, rank + outputs, jnp.float32)
            y = y + self.lora.scale * jnp.tensordot(jnp.tensordot(x, a, n), b, 1)
        return y

    def weight(self, name: str, init, axes: Axes, dtype: jnp.dtype | None = None) -> jax.Array:
        names, shape = zip(*axes, strict=True)
        init = nn.with_logical_partitioning(init, names)
        return self.param(name, init, shape, dtype or self.param_dtype).astype(self.dtype)


class Attention(_Block):
    """Grouped-query self-attention with RoPE, over the cache when there is one."""

    @nn.compact
    def __call__(self, x_BxTxM, layer, cos, sin, mask_BxTxS, cache: KVCache | None):
        c = self.config
        model, head = (("embed", c.hidden_size),), ("head_dim", c.head_dim)
        query_heads, key_heads = ("heads", c.num_heads), ("kv_heads", c.num_kv_heads)
        q = self.linear("q", x_BxTxM, model, (query_heads, head), c.qkv_bias)
        k = self.linear("k", x_BxTxM, model, (key_heads, head), c.qkv_bias)
        v = self.linear("v", x_BxTxM, model, (key_heads, head), c.qkv_bias)
        if c.qk_norm:
            q = RMSNorm(c.rms_norm_eps, self.param_dtype, "head_dim", name="q_norm")(q)
            k = RMSNorm(c.rms_norm_eps, self.param_dtype, "head_dim", name="k_norm")(k)
        q, k = rope.rotate(q, cos, sin), rope.rotate(k, cos, sin)
        if cache is not None:
            cache = kv_cache.write(cache, layer, k, v)
            k, v = (x.astype(self.dtype) for x in kv_cache.read(cache, layer))
        y = attend(q, k, v, mask_BxTxS)
        return self.linear("o", y, (query_heads, head), model, c.o_bias), cache


class FeedForward(_Block):
    """SwiGLU: (silu(x gate) * x up) down (2002.05202)."""

    @nn.compact
    def __call__(self, x_BxTxM: jax.Array) -> jax.Array:
        c = self.config
        model, inner = (("embed", c.hidden_size),), (("mlp", c.intermediate_size),)
        # Two axes only: XLA's gradient of a 3-D product takes twice the time on a CPU.
        x = x_BxTxM.reshape(-1, c.hidden_size)
        gate = self.linear("gate", x, model, inner, c.mlp_bias)
        up = self.linear("up", x, model, inner, c.mlp_bias)
        return self.linear("down", jax.nn.silu(gate) * up, inner, model, c.mlp_bias).reshape(
            x_BxTxM.shape
        )


class Layer(_Block):
    """One pre-norm residual layer; the carry of the scan is (hidden, cache)."""

    @nn.compact
    def __call__(self, carry, layer, cos, sin, mask_BxTxS):
        x_BxTxM, cache = carry
        block = (self.config, self.dtype, self.param_dtype, self.lora)
        norm = (self.config.rms_norm_eps, self.param_dtype)
        y, cache = Attention(*block, name="attention")(
            RMSNorm(*norm, name="attention_norm")(x_BxTxM), layer, cos, sin, mask_BxTxS, cache
        )
        x_BxTxM = x_BxTxM + y
        y = FeedForward(*block, name="mlp")(RMSNorm(*norm, name="mlp_norm")(x_BxTxM))
        return (x_BxTxM + y, cache), None


class Decoder(nn.Module):
    """The whole model. Parameters of the layers are stacked on a leading axis.

    dtype: of the matrix products (norms, softmax and logits are float32). param_dtype: of the
    parameters it initialises; adapters are float32. remat: recompute each layer in the backward
    pass. lora: the adapters that every layer has beside its own parameters.
    """

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False
    lora: Lora | None = None

    def setup(self):
        c = self.config
        init = nn.with_logical_partitioning(
            nn.initializers.normal(c.initializer_range), ("vocab", "embed")
        )
        shape = (c.vocab_size, c.hidden_size)
        self.embedding = self.param("embedding", init, shape, self.param_dtype)
        if not c.tie_embeddings:
            self.head = self.param("head", init, shape, self.param_dtype)
        stack = nn.scan(
            nn.remat(Layer, prevent_cse=False) if self.remat else Layer,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=c.num_layers,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        self.layers = stack(c, self.dtype, self.param_dtype, self.lora)
        self.final_norm = RMSNorm(c.rms_norm_eps, self.param_dtype)

    def __call__(
        self,
        tokens_BxT: jax.Array,
        positions_BxT: jax.Array,
        mask_BxTxS: jax.Array,
        cache: KVCache | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """Hidden states after the final norm, [B, T, M] in `dtype`, and the advanced cache.

        mask: bool, true where token t may attend to slot s. Without a cache S = T. With one, the T
        tokens are written at slots index..index+T and S is the number of the cache's slots.
        """
        c = self.config
        frequencies = rope.frequencies(c.head_dim, c.rope_theta, c.rope_scaling)
        angles = rope.angles(positions_BxT, frequencies)[:, :, None]
        x_BxTxM = jnp.take(self.embedding, tokens_BxT, axis=0).astype(self.dtype)
        (x_BxTxM, cache), _ = self.layers(
            (x_BxTxM, cache), jnp.arange(c.num_layers), jnp.cos(angles), jnp.sin(angles), mask_BxTxS
        )
        if cache is not None:
            cache = cache.replace(index=cache.index + tokens_BxT.shape[1])
        return self.final_norm(x_BxTxM), cache

    def unembed(self, hidden_BxTxM: jax.Array) -> jax.Array:
        """float32 logits [..., V] of hidden states [..., M]."""
        head_VxM = self.embedding if self.config.tie_embeddings else self.head
        return unembed(hidden_BxTxM, head_VxM, self.dtype)
