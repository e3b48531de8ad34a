"""Flash attention where a platform has it: cuDNN's on GPUs, splash attention (Pallas) on TPUs.

Both are `attention.Attention`s. Letters as there.
"""

from __future__ import annotations

import math
import re
from functools import partial

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
    BlockSizes,
    CausalMask,
    MultiHeadMask,
    SegmentIds,
    make_splash_mha,
)
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from riskpo_jax.errors import UserError
from riskpo_jax.models.attention import KV, Attention, xla
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.sharding import LOGICAL_RULES, fit

_TILE = 128  # splash's blocks, and the lanes of a head, are multiples of it


def make_attention(name: str, config: DecoderConfig, dtype: jnp.dtype, mesh: Mesh) -> Attention:
    """The implementation called `name`: xla, cudnn, splash, or auto, the fastest that can be had.

    Raises:
      UserError: one that does not run on the mesh's platform, or not with this model.
    """
    device = mesh.devices.flat[0]
    refused = {
        "cudnn": _refused_by_cudnn(config, dtype, device),
        "splash": _refused_by_splash(config, device),
    }
    if name == "auto":
        name = next((kernel for kernel, reason in refused.items() if not reason), "xla")
    if refused.get(name):
        raise UserError(f"--model.attention={name} {refused[name]}: give auto or xla")
    return {"xla": xla, "cudnn": cudnn, "splash": partial(splash, mesh)}[name]


def _refused_by_cudnn(config: DecoderConfig, dtype: jnp.dtype, device: jax.Device) -> str | None:
    if device.platform != "gpu":
        return f"runs on GPUs, not on {device.platform}"
    if not re.fullmatch(r"([89]|\d\d)\.\d", getattr(device, "compute_capability", "")):
        return f"runs on NVIDIA GPUs from Ampere on, not on {device.device_kind}"
    if jnp.dtype(dtype).itemsize != 2:
        return f"computes in bfloat16 or float16, not in --model.compute_dtype={jnp.dtype(dtype)}"
    if config.head_dim % 8 or config.head_dim > 128:
        return f"takes heads of 8 to 128 features in steps of 8, not of {config.head_dim}"
    return None


def _refused_by_splash(config: DecoderConfig, device: jax.Device) -> str | None:
    if device.platform != "tpu":
        return f"runs on TPUs, not on {device.platform}"
    if config.head_dim % _TILE:
        return f"takes heads of multiples of {_TILE} features, not of {config.head_dim}"
    return None


def cudnn(
    q_BxTxHxD: jax.Array,
    kv: KV,
    seen_BxS: jax.Array | None,
    offset: int,
    implementation: str = "cudnn",
) -> jax.Array:
    """cuDNN's fused attention through `jax.nn.dot_product_attention`, whose own choice is never cuDNN.

    Its gradient takes no odd lengths under a mask: they are padded.
    """
    B, T, S = q_BxTxHxD.shape[0], q_BxTxHxD.shape[1], kv.k.shape[2]
    q, k, v = (
        jnp.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, 0), (0, 0)))
        for x in (q_BxTxHxD, kv.k.swapaxes(1, 2), kv.v.swapaxes(1, 2))
    )
    attention = partial(jax.nn.dot_product_attention, q, k, v, implementation=implementation)
    if seen_BxS is None and offset == 0 and T == S:
        return attention(is_causal=True)[:, :T]
    causal_TxS = jnp.arange(k.shape[1])[None, :] <= jnp.arange(q.shape[1])[:, None] + offset
    seen_BxS = jnp.ones((B, S), bool) if seen_BxS is None else seen_BxS
    seen_BxS = jnp.pad(seen_BxS, ((0, 0), (0, S % 2)))
    return attention(mask=(seen_BxS[:, None, :] & causal_TxS[None])[:, None])[:, :T]


def splash(
    mesh: Mesh,
    q_BxTxHxD: jax.Array,
    kv: KV,
    seen_BxS: jax.Array | None,
    offset: int,
    interpret: bool = False,
) -> jax.Array:
    """Splash attention on every device's own rows and heads, sequences padded to whole tiles.

    What a row may not see is another segment than its queries'.
    """
    B, T, H, D = q_BxTxHxD.shape
    K, S, tensor = kv.k.shape[1], kv.k.shape[2], mesh.shape["tensor"]
    # Where the key heads do not divide over the devices, each device gets copies of those it needs.
    copies = math.lcm(K, tensor) // K if H % math.lcm(K, tensor) == 0 else 1
    q, k, v = (
        jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[2] % _TILE), (0, 0)))
        for x in ((q_BxTxHxD * D**-0.5).swapaxes(1, 2), *(x.repeat(copies, axis=1) for x in kv))
    )
    seen_BxS = jnp.ones((B, S), jnp.int32) if seen_BxS is None else seen_BxS.astype(jnp.int32)
    seen_BxS = jnp.pad(seen_BxS, ((0, 0), (0, -S % _TILE)))
    rules = dict(LOGICAL_RULES)
    heads = NamedSharding(mesh, PartitionSpec(rules["batch"], rules["heads"]))
    heads = fit(heads, (B, math.gcd(q.shape[1], k.shape[1]))).spec
    y = jax.shard_map(
        partial(_splash_rows, offset, interpret),
        mesh=mesh,
        in_specs=(heads, heads, heads, PartitionSpec(heads[0])),
        out_specs=heads,
        check_vma=False,
    )(q, k, v, seen_BxS)
    return y[:, :, :T].swapaxes(1, 2)


def _splash_rows(offset: int, interpret: bool, q_BxHxTxD, k_BxKxSxD, v_BxKxSxD, seen_BxS):
    H, T, S = *q_BxHxTxD.shape[1:3], k_BxKxSxD.shape[2]
    q_block, kv_block = _block(T), _block(S)
    kernel = make_splash_mha(
        MultiHeadMask([CausalMask((T, S), offset)] * H),
        block_sizes=BlockSizes(
            block_q=q_block,
            block_kv=kv_block,
            block_kv_compute=kv_block,
            block_q_dkv=q_block,
            block_kv_dkv=kv_block,
            block_kv_dkv_compute=kv_block,
            block_q_dq=q_block,
            block_kv_dq=kv_block,
        ),
        head_shards=1,
        q_seq_shards=1,
        interpret=interpret,
    )

    def row(q, k, v, seen_S):
        return kernel(q, k, v, segment_ids=SegmentIds(jnp.ones((T,), jnp.int32), seen_S))

    return jax.vmap(row)(q_BxHxTxD, k_BxKxSxD, v_BxKxSxD, seen_BxS)


def _block(length: int) -> int:
    """The largest block of up to four tiles that divides a length of whole tiles."""
    return next(size for size in (512, 384, 256, 128) if length % size == 0)
