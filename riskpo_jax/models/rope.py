"""Rotary position embeddings (RoPE, 2104.09864) and the scaling that Llama 3.1 adds to them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from riskpo_jax.errors import UserError


@dataclass(frozen=True)
class Llama3Scaling:
    """How Llama 3.1 stretches RoPE to longer contexts (`rope_type` "llama3").

    Wavelengths are in tokens: those beyond original / low_freq_factor are stretched by `factor`, those
    below original / high_freq_factor are kept, and between the two the frequency is interpolated.
    """

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_max_position_embeddings: int

    def __post_init__(self):
        if not (self.factor > 0 and 0 < self.low_freq_factor < self.high_freq_factor):
            raise UserError(f"{self} needs factor > 0 and 0 < low_freq_factor < high_freq_factor")

    def __call__(self, frequencies: np.ndarray) -> np.ndarray:
        """The scaled frequencies, as transformers' `_compute_llama3_parameters` has them."""
        turns = self.original_max_position_embeddings * frequencies / (2 * math.pi)
        span = self.high_freq_factor - self.low_freq_factor
        kept = np.clip((turns - self.low_freq_factor) / span, 0.0, 1.0)
        return frequencies * (kept + (1 - kept) / self.factor)


def frequencies(head_dim: int, theta: float, scaling: Llama3Scaling | None = None) -> np.ndarray:
    """float32[D/2], radians a token: theta^(-2i/D) for pair i, scaled where the model says so.

    Computed on the host in float64: a device's float32 power can be off by what turns the angle of a
    far position visibly.
    """
    plain = theta ** (-np.arange(0, head_dim, 2) / head_dim)
    return np.float32(plain if scaling is None else scaling(plain))


def angles(positions_BxT: jax.Array, frequencies_P: np.ndarray) -> jax.Array:
    """float32[B, T, P]: position * frequency of every pair."""
    return positions_BxT[:, :, None].astype(jnp.float32) * frequencies_P[None, None, :]


def rotate(x_BxTxHxD: jax.Array, cos: jax.Array, sin: jax.Array) -> jax.Array:
    """Rotates the pairs (i, i + D/2), the convention of the Hugging Face weights.

    cos, sin: float32[B, T, 1, D/2].
    """
    a, b = jnp.split(x_BxTxHxD.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], -1).astype(x_BxTxHxD.dtype)
