"""Logits, and a backward pass that keeps the largest matrix products of the model in the compute type."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp

product = partial(jnp.einsum, preferred_element_type=jnp.float32)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def unembed(hidden: jax.Array, head_VxM: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """float32 logits [..., V] of hidden states [..., M]: products in `dtype`, sums in float32.

    Autodiff would widen the head and the hidden states to float32 because the logits are. Here their
    cotangent is rounded to `dtype` instead, and the head's gradient is returned as it was summed.
    """
    return product("...m,vm->...v", hidden.astype(dtype), head_VxM.astype(dtype))


def _forward(hidden, head_VxM, dtype):
    return unembed(hidden, head_VxM, dtype), (hidden, head_VxM)


def _backward(dtype, saved, d_logits):
    hidden, head_VxM = saved
    V, M = head_VxM.shape
    d_logits = d_logits.astype(dtype)
    d_hidden = product("...v,vm->...m", d_logits, head_VxM.astype(dtype))
    rows = hidden.astype(dtype).reshape(-1, M)
    d_head = product("nv,nm->vm", d_logits.reshape(-1, V), rows)
    return d_hidden.astype(hidden.dtype), d_head.astype(head_VxM.dtype)


unembed.defvjp(_forward, _backward)
