"""A decoder-only transformer: Qwen2 (2407.10671) in Flax Linen.

Letters: B rows, T query tokens, S slots attended to, M model width, H query heads, K key-value
heads, G = H / K queries a key, D features a head, F feed-forward width, V vocabulary.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from riskpo_jax.models import kv_cache
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.kv_cache import KVCache


def rope_angles(positions_BxT: jax.Array, head_dim: int, theta: float) -> jax.Array:
    """float32[B, T, D/2]: the angle of pair i is position * theta^(-2i/D) (RoPE, 2104.09864)."""
    frequencies = theta ** (-jnp.arange(0, head_dim, 2, dtype=jnp.float32) / head_dim)
    return positions_BxT[:, :, None].astype(jnp.float32) * frequencies[None, None, :]


def rotate(x_BxTxHxD: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates the pairs (i, i + D/2), the convention of the Hugging Face weights.

    cos, sin: float32[B, T, 1, D/2].
    """
    a, b = jnp.split(x_BxTxHxD.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x_BxTxHxD.dtype)


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
    """x / sqrt(mean(x^2) + eps) * scale, in float32 (1910.07467)."""

    eps: float
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.ones, ("embed",))
        scale = self.param("scale", init, x.shape[-1:], self.param_dtype).astype(jnp.float32)
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.mean(y * y, axis=-1, keepdims=True) + self.eps)
        return (y * scale.reshape((1,) * (x.ndim - 1) + (-1,))).astype(x.dtype)


class _Block(nn.Module):
    """What attention and feed-forward share: the config and how a parameter is declared."""

    config: DecoderConfig
    dtype: jnp.dtype
    param_dtype: jnp.dtype

    def weight(self, name: str, shape: tuple[int, ...], axes: tuple[str, ...]) -> jax.Array:
        init = nn.initializers.normal(self.config.initializer_range)
        init = nn.with_logical_partitioning(init, axes)
        return self.param(name, init, shape, self.param_dtype).astype(self.dtype)

    def bias(self, name: str, shape: tuple[int, ...], axes: tuple[str, ...]) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.zeros, axes)
        return self.param(name, init, shape, self.param_dtype).astype(self.dtype)


class Attention(_Block):
    """Grouped-query self-attention with RoPE, over the cache when there is one."""

    @nn.compact
    def __call__(self, x_BxTxM, layer, cos, sin, mask_BxTxS, cache: KVCache | None):
        c = self.config

        def project(name: str, heads: int, axis: str) -> jax.Array:
            shape, axes = (c.hidden_size, heads, c.head_dim), ("embed", axis, "head_dim")
            y = jnp.einsum("btm,mhd->bthd", x_BxTxM, self.weight(name, shape, axes))
            if c.qkv_bias:
                y = y + self.bias(f"{name}_bias", shape[1:], axes[1:])[None, None]
            return y

        q = rotate(project("q", c.num_heads, "heads"), cos, sin)
        k = rotate(project("k", c.num_kv_heads, "kv_heads"), cos, sin)
        v = project("v", c.num_kv_heads, "kv_heads")
        if cache is not None:
            cache = kv_cache.write(cache, layer, k, v)
            k, v = (x.astype(self.dtype) for x in kv_cache.read(cache, layer))
        y = attend(q, k, v, mask_BxTxS)
        shape = (c.num_heads, c.head_dim, c.hidden_size)
        o = self.weight("o", shape, ("heads", "head_dim", "embed"))
        return jnp.einsum("bthd,hdm->btm", y, o), cache


class FeedForward(_Block):
    """SwiGLU: (silu(x gate) * x up) down (2002.05202)."""

    @nn.compact
    def __call__(self, x_BxTxM: jax.Array) -> jax.Array:
        M, F = self.config.hidden_size, self.config.intermediate_size
        gate = self.weight("gate", (M, F), ("embed", "mlp"))
        up = self.weight("up", (M, F), ("embed", "mlp"))
        down = self.weight("down", (F, M), ("mlp", "embed"))
        x = x_BxTxM.reshape(-1, M)  # XLA's CPU backward pass of a 3-D product takes twice the time
        return ((jax.nn.silu(x @ gate) * (x @ up)) @ down).reshape(x_BxTxM.shape)


class Layer(_Block):
    """One pre-norm residual layer; the carry of the scan is (hidden, cache)."""

    @nn.compact
    def __call__(self, carry, layer, cos, sin, mask_BxTxS):
        x_BxTxM, cache = carry
        block = (self.config, self.dtype, self.param_dtype)
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
    parameters it initialises. remat: recompute each layer in the backward pass.
    """

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: bool = False

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
        self.layers = stack(c, self.dtype, self.param_dtype)
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
        angles = rope_angles(positions_BxT, c.head_dim, c.rope_theta)[:, :, None]
        x_BxTxM = jnp.take(self.embedding, tokens_BxT, axis=0).astype(self.dtype)
        (x_BxTxM, cache), _ = self.layers(
            (x_BxTxM, cache), jnp.arange(c.num_layers), jnp.cos(angles), jnp.sin(angles), mask_BxTxS
        )
        if cache is not None:
            cache = cache.replace(index=cache.index + tokens_BxT.shape[1])
        return self.final_norm(x_BxTxM), cache

    def unembed(self, hidden_BxTxM: jax.Array) -> jax.Array:
        """float32 logits [..., V] of hidden states [..., M]."""
        head = self.embedding if self.config.tie_embeddings else self.head
        return jnp.einsum(
            "...m,vm->...v",
            hidden_BxTxM,
            head.astype(self.dtype),
            preferred_element_type=jnp.float32,
        )
