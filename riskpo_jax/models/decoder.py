"""A decoder-only transformer in Flax Linen: Qwen2 (2407.10671), Qwen3 (2505.09388), Llama 3 (2407.21783).

Letters: L layers, B rows, T tokens, M model width, H query heads, K key-value heads, D features a head,
F feed-forward width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from riskpo_jax.models import lora as lora_lib
from riskpo_jax.models import rope
from riskpo_jax.models.attention import KV, Attend
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.lora import Lora
from riskpo_jax.models.unembed import unembed
from riskpo_jax.sharding import constrain

Axes = tuple[tuple[str, int], ...]  # logical name and size of each


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * scale over the last axis, in float32 (1910.07467)."""

    eps: float
    param_dtype: jnp.dtype

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.with_logical_partitioning(nn.initializers.ones, ("norm",))
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
    mesh: Mesh | None

    def linear(
        self, name: str, x: jax.Array, inputs: Axes, outputs: Axes, bias: bool = False
    ) -> jax.Array:
        """x W + b over the last `inputs` axes of x, and the low-rank update where it is adapted."""
        normal = nn.initializers.normal(self.config.initializer_range)
        zeros = nn.initializers.zeros
        y = _product(x, self.weight(name, normal, inputs + outputs), len(inputs))
        if bias:
            b = self.weight(f"{name}_bias", zeros, outputs)
            y = y + b.reshape((1,) * (y.ndim - b.ndim) + b.shape)
        if self.lora and name in self.lora.matrices:
            rank = (("rank", self.lora.rank),)
            a = self.weight(name + lora_lib.A, lora_lib.init_a, inputs + rank, jnp.float32)
            b = self.weight(name + lora_lib.B, zeros, rank + outputs, jnp.float32)
            y = y + self.lora.scale * _product(_product(x, a, len(inputs)), b, 1)
        return y

    def weight(self, name: str, init, axes: Axes, dtype: jnp.dtype | None = None) -> jax.Array:
        names, shape = zip(*axes, strict=True)
        init = nn.with_logical_partitioning(init, names)
        return self.param(name, init, shape, dtype or self.param_dtype).astype(self.dtype)


def _product(x: jax.Array, w: jax.Array, inputs: int) -> jax.Array:
    """x and w contracted over the last `inputs` axes of x and the first of w, as a product of matrices.

    With more axes than two, XLA's gradient of the product takes twice the time on a CPU.
    """
    leading, outputs = x.shape[: x.ndim - inputs], w.shape[inputs:]
    width = math.prod(w.shape[:inputs])
    return (x.reshape(-1, width) @ w.reshape(width, -1)).reshape(*leading, *outputs)


class Attention(_Block):
    """Grouped-query attention with RoPE, to whatever `attend` lets the tokens see."""

    @nn.compact
    def __call__(self, x_BxTxM, past, cos, sin, attend: Attend):
        c = self.config
        model, head = (("embed", c.hidden_size),), ("head_dim", c.head_dim)
        query_heads, key_heads = ("heads", c.num_heads), ("kv_heads", c.num_kv_heads)
        q = self.linear("q", x_BxTxM, model, (query_heads, head), c.qkv_bias)
        k = self.linear("k", x_BxTxM, model, (key_heads, head), c.qkv_bias)
        v = self.linear("v", x_BxTxM, model, (key_heads, head), c.qkv_bias)
        if c.qk_norm:
            q = RMSNorm(c.rms_norm_eps, self.param_dtype, name="q_norm")(q)
            k = RMSNorm(c.rms_norm_eps, self.param_dtype, name="k_norm")(k)
        q, k = rope.rotate(q, cos, sin), rope.rotate(k, cos, sin)
        kv = KV(k.swapaxes(1, 2), v.swapaxes(1, 2))
        return self.linear("o", attend(q, kv, past), (query_heads, head), model, c.o_bias), kv


class FeedForward(_Block):
    """SwiGLU: (silu(x gate) * x up) down (2002.05202)."""

    @nn.compact
    def __call__(self, x_BxTxM: jax.Array) -> jax.Array:
        c = self.config
        model, inner = (("embed", c.hidden_size),), (("mlp", c.intermediate_size),)
        gate = self.linear("gate", x_BxTxM, model, inner, c.mlp_bias)
        up = self.linear("up", x_BxTxM, model, inner, c.mlp_bias)
        return self.linear("down", jax.nn.silu(gate) * up, inner, model, c.mlp_bias)


class Layer(_Block):
    """One pre-norm residual layer: hidden states in, hidden states and the tokens' keys and values out."""

    @nn.compact
    def __call__(self, x_BxTxM, past, cos, sin, attend: Attend):
        block = (self.config, self.dtype, self.param_dtype, self.lora, self.mesh)
        norm = (self.config.rms_norm_eps, self.param_dtype)
        y, kv = Attention(*block, name="attention")(
            RMSNorm(*norm, name="attention_norm")(x_BxTxM), past, cos, sin, attend
        )
        x_BxTxM = x_BxTxM + y
        y = FeedForward(*block, name="mlp")(RMSNorm(*norm, name="mlp_norm")(x_BxTxM))
        return constrain(x_BxTxM + y, self.mesh, "batch", None, None), kv


REMAT: dict[str, Callable] = {
    "none": lambda layer: layer,
    "products": partial(
        nn.remat, prevent_cse=False, policy=jax.checkpoint_policies.dots_with_no_batch_dims_saveable
    ),
    "all": partial(nn.remat, prevent_cse=False),
}
"""What of a layer is recomputed in the backward pass: nothing, all but matrix products, everything."""


class Decoder(nn.Module):
    """The whole model. Parameters of the layers are stacked on a leading axis.

    dtype: of the matrix products (norms, softmax and logits are float32). param_dtype: of the
    parameters it initialises; adapters are float32. remat: what each layer recomputes in the backward
    pass, a key of REMAT. lora: the adapters that every layer has beside its own parameters.
    mesh: where activations are divided over devices, rows over the data axes; None leaves it to XLA.
    unroll: layers in one turn of the loop over them.
    """

    config: DecoderConfig
    dtype: jnp.dtype = jnp.float32
    param_dtype: jnp.dtype = jnp.float32
    remat: str = "none"
    lora: Lora | None = None
    mesh: Mesh | None = None
    unroll: int = 1

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
            REMAT[self.remat](Layer),
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast),
            length=c.num_layers,
            unroll=self.unroll,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        self.layers = stack(c, self.dtype, self.param_dtype, self.lora, self.mesh)
        self.final_norm = RMSNorm(c.rms_norm_eps, self.param_dtype)

    def __call__(
        self, tokens_BxT: jax.Array, positions_BxT: jax.Array, attend: Attend, past: Any = None
    ) -> tuple[jax.Array, KV]:
        """Hidden states after the final norm, [B, T, M] in `dtype`, and the tokens' KV [L, B, K, T, D].

        attend: what each token sees, see `models.attention`. past: what came before, a pytree with a
        leading axis L, of which every layer hands its part to `attend`.
        """
        c = self.config
        frequencies = rope.frequencies(c.head_dim, c.rope_theta, c.rope_scaling)
        angles = rope.angles(positions_BxT, frequencies)[:, :, None]
        x_BxTxM = jnp.take(self.embedding, tokens_BxT, axis=0).astype(self.dtype)
        x_BxTxM = constrain(x_BxTxM, self.mesh, "batch", None, None)
        x_BxTxM, kv = self.layers(x_BxTxM, past, jnp.cos(angles), jnp.sin(angles), attend)
        return self.final_norm(x_BxTxM), kv

    def unembed(self, hidden_BxTxM: jax.Array) -> jax.Array:
        """float32 logits [..., V] of hidden states [..., M]."""
        head_VxM = self.embedding if self.config.tie_embeddings else self.head
        rows = ("batch", *(None,) * (hidden_BxTxM.ndim - 2))
        hidden_BxTxM = constrain(hidden_BxTxM, self.mesh, *rows, None)
        logits_BxTxV = unembed(hidden_BxTxM, head_VxM, self.dtype)
        return constrain(logits_BxTxV, self.mesh, *rows, "vocab")
