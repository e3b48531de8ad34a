"""Masked sums, and means that stay exact across micro-batches and devices.

A mean crosses a boundary as (total, count) and is divided once, at the end.
"""

from __future__ import annotations

import flax.struct
import jax
import jax.numpy as jnp


@flax.struct.dataclass
class Mean:
    """An unreduced mean: scalar `total` over scalar `count` terms."""

    total: jax.Array
    count: jax.Array

    def __add__(self, other: Mean) -> Mean:
        return Mean(self.total + other.total, self.count + other.count)

    def value(self) -> jax.Array:
        """The mean; 0 where nothing was counted."""
        return self.total / jnp.maximum(self.count, 1)


def masked_sum(values: jax.Array, mask: jax.Array) -> jax.Array:
    """Sum of `values` where `mask` (same shape, bool) is true; masked entries may be NaN."""
    return jnp.where(mask, values, 0).sum()


def masked_mean(values: jax.Array, mask: jax.Array) -> Mean:
    """Unreduced mean of `values` where `mask` (same shape, bool) is true."""
    return Mean(masked_sum(values, mask), mask.sum().astype(values.dtype))


def length_mask(lengths_N: jax.Array, size: int) -> jax.Array:
    """bool[N, size]: true for the first `lengths_N[n]` slots of row n."""
    return jnp.arange(size)[None, :] < lengths_N[:, None]
