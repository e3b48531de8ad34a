"""Rotary embeddings as complex numbers, and Llama 3.1's bands wavelength by wavelength."""

import math

import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.models.rope import Llama3Scaling, angles, frequencies, rotate

LLAMA31 = Llama3Scaling(8.0, 1.0, 4.0, 8192)


def test_rope_is_a_rotation_by_position():
    """Pair (i, i + D/2) as a complex number turns by position * theta^(-2i/D)."""
    x = np.random.default_rng(5).standard_normal((1, 3, 2, 8)).astype(np.float32)
    positions = np.array([[0, 1, 7]])
    turns = angles(positions, frequencies(8, 100.0))[:, :, None]
    z = x[..., :4] + 1j * x[..., 4:]
    turned = z * np.exp(1j * positions[..., None, None] * 100.0 ** (-np.arange(4) / 4))
    expected = np.concatenate([turned.real, turned.imag], -1)
    np.testing.assert_allclose(rotate(x, jnp.cos(turns), jnp.sin(turns)), expected, atol=1e-5)


def test_llama3_keeps_short_waves_stretches_long_ones_and_blends_between():
    plain, scaled = frequencies(128, 5e5), frequencies(128, 5e5, LLAMA31)
    wavelengths = 2 * math.pi / plain
    short, long = wavelengths < 8192 / 4, wavelengths > 8192
    between = ~short & ~long
    assert short.any() and long.any() and between.any()
    np.testing.assert_array_equal(scaled[short], plain[short])
    np.testing.assert_allclose(scaled[long], plain[long] / 8, rtol=1e-6)
    assert ((plain[between] / 8 < scaled[between]) & (scaled[between] < plain[between])).all()
    assert (np.diff(scaled) < 0).all()


@pytest.mark.parametrize("size", ["8B", "70B"])
def test_frequencies_are_those_of_transformers(size):
    pytest.importorskip("torch")
    from transformers import LlamaConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    from riskpo_jax.models.known import known

    config = known(f"Llama-3.1-{size}")
    theirs, _ = ROPE_INIT_FUNCTIONS["llama3"](LlamaConfig(**config.to_hf()), "cpu")
    ours = frequencies(config.head_dim, config.rope_theta, config.rope_scaling)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs.numpy(), rtol=1e-6)


@pytest.mark.parametrize("factors", [(0.0, 1.0, 4.0), (8.0, 0.0, 4.0), (8.0, 4.0, 4.0)])
def test_a_scaling_without_meaning_is_refused(factors):
    with pytest.raises(UserError, match="low_freq_factor < high_freq_factor"):
        Llama3Scaling(*factors, 8192)
