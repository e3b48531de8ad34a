"""Low-rank adapters (LoRA, 2106.09685): y = x W + (alpha / rank) x A B, where only A and B are trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict

MATRICES = ("q", "k", "v", "o", "gate", "up", "down")
A, B = "_lora_a", "_lora_b"


@dataclass(frozen=True)
class Lora:
    """Which matrices of every layer are adapted (of MATRICES), and how."""

    rank: int
    alpha: float
    matrices: tuple[str, ...] = MATRICES

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


def init_a(key: jax.Array, shape: tuple[int, ...], dtype) -> jax.Array:
    """U(-1/sqrt(n), 1/sqrt(n)) for n inputs, as PEFT draws it; shape: (*inputs, rank). B starts at 0."""
    bound = math.prod(shape[:-1]) ** -0.5
    return jax.random.uniform(key, shape, dtype, -bound, bound)


def split(params: Mapping[str, Any]) -> tuple[dict, dict]:
    """A decoder's parameters as (base, adapters), two trees that `join` puts together again."""
    flat = flatten_dict(params)
    adapters = {path: leaf for path, leaf in flat.items() if path[-1].endswith((A, B))}
    base = {path: leaf for path, leaf in flat.items() if path not in adapters}
    return unflatten_dict(base), unflatten_dict(adapters)


def join(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict:
    """One tree of the leaves of two; no array is copied."""
    return unflatten_dict(flatten_dict(one) | flatten_dict(other))


def merge(base: Mapping[str, Any], adapters: Mapping[str, Any], lora: Lora) -> dict:
    """W + (alpha / rank) A B for every adapted W: a decoder's parameters without adapters.

    The sum is taken in float32 and rounded once, to W's type; one layer at a time, in W's place where a
    jitted caller donates `base`.
    """
    merged, low_rank = flatten_dict(base), flatten_dict(adapters)
    for path, a in low_rank.items():
        *block, name = path
        if name.endswith(A):
            name = name.removesuffix(A)
            b, w = low_rank[*block, name + B], merged[*block, name]
            add = partial(_add_layer, jnp.asarray(a), jnp.asarray(b), lora.scale)
            merged[*block, name] = jax.lax.fori_loop(0, len(a), add, jnp.asarray(w))
    return unflatten_dict(merged)


def _add_layer(a: jax.Array, b: jax.Array, scale: float, layer: int, w: jax.Array) -> jax.Array:
    """w [L, *inputs, *outputs] with scale A B added to one layer."""
    update = scale * jnp.tensordot(a[layer], b[layer], 1, precision=jax.lax.Precision.HIGHEST)
    return w.at[layer].set((w[layer].astype(jnp.float32) + update).astype(w.dtype))
