"""The decoder against golden logits of transformers, and against itself."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.models import hf, masks
from riskpo_jax.models.attention import masked
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import REMAT, Decoder
from riskpo_jax.models.rope import Llama3Scaling

GOLDEN = sorted((Path(__file__).parent / "golden").iterdir())


@pytest.mark.parametrize("directory", GOLDEN, ids=lambda d: d.name)
def test_golden_logits(directory, full_logits, cached_logits):
    config = DecoderConfig.from_directory(directory)
    params = hf.load_params(directory, config)
    golden = np.load(directory / "expected.npz")
    tokens, valid, expected = golden["tokens"], golden["valid"], golden["logits"]
    full = full_logits(Decoder(config), params, tokens, valid)
    cached = cached_logits(Decoder(config), params, tokens, valid, prefill=9)
    np.testing.assert_allclose(full[valid], expected[valid], atol=1e-4)
    np.testing.assert_allclose(cached[valid], expected[valid], atol=1e-4)


def test_left_padding_changes_nothing(make_config, random_params, full_logits):
    config = make_config()
    params, model = random_params(config), Decoder(config)
    tokens = np.random.default_rng(1).integers(0, 37, (1, 6))
    alone = full_logits(model, params, tokens, np.ones((1, 6), bool))
    for padding in (1, 7):
        padded = np.pad(tokens, ((0, 0), (padding, 0)), constant_values=3)
        valid = np.arange(6 + padding)[None, :] >= padding
        logits = full_logits(model, params, padded, valid)
        assert np.isfinite(logits).all()
        np.testing.assert_allclose(logits[:, padding:], alone, atol=1e-5)


@pytest.mark.parametrize(
    "prefill, options",
    [
        (1, {"tie_embeddings": True}),
        (5, {"model_type": "qwen3", "qk_norm": True, "o_bias": True}),
        (12, {"model_type": "llama", "mlp_bias": True, "rope_scaling": Llama3Scaling(8, 1, 4, 16)}),
    ],
    ids=["qwen2", "qwen3", "llama"],
)
def test_cached_decode_equals_full_forward(
    prefill, options, make_config, random_params, full_logits, cached_logits
):
    config = make_config(**options)
    params, model = random_params(config), Decoder(config)
    tokens = np.random.default_rng(2).integers(0, 37, (2, 12))
    valid = np.arange(12)[None, :] >= np.array([0, 4])[:, None]
    full = full_logits(model, params, tokens, valid)
    cached = cached_logits(model, params, tokens, valid, prefill)
    np.testing.assert_allclose(cached[valid], full[valid], atol=1e-5)


def test_the_future_is_hidden(make_config, random_params, full_logits):
    config = make_config()
    params, valid = random_params(config), np.ones((2, 12), bool)
    tokens = np.random.default_rng(3).integers(0, 37, (2, 12))
    changed = tokens.copy()
    changed[:, 5] = (tokens[:, 5] + 1) % 37
    a = full_logits(Decoder(config), params, tokens, valid)
    b = full_logits(Decoder(config), params, changed, valid)
    np.testing.assert_array_equal(a[:, :5], b[:, :5])
    assert np.abs(a[:, 5:] - b[:, 5:]).max(-1).min() > 1e-3


def test_remat_keeps_values_and_gradients(make_config, random_params):
    config = make_config()
    params, valid = random_params(config), np.ones((2, 6), bool)
    tokens = np.random.default_rng(6).integers(0, 37, (2, 6))

    def loss(params, remat):
        model = Decoder(config, remat=remat)
        args = tokens, masks.positions_from_valid(valid), masked(masks.causal(valid))
        return jnp.sum(model.apply({"params": params}, *args)[0][..., 0])

    assert list(REMAT) == ["none", "products", "all"]
    plain, *others = (
        jax.jit(jax.value_and_grad(loss), static_argnums=1)(params, remat) for remat in REMAT
    )
    for again in others:
        jax.tree.map(
            lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), plain, again
        )


@pytest.mark.parametrize("tie", [False, True])
def test_bfloat16_stays_near_float32(tie, make_config, random_params, full_logits, cached_logits):
    config = make_config(tie_embeddings=tie)
    params = random_params(config)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    model = Decoder(config, dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
    tokens = np.random.default_rng(7).integers(0, 37, (2, 8))
    valid = np.arange(8)[None, :] >= np.array([0, 3])[:, None]
    expected = full_logits(Decoder(config), params, tokens, valid)[valid]
    for logits in (
        full_logits(model, half, tokens, valid),
        cached_logits(model, half, tokens, valid, prefill=5),
    ):
        assert logits.dtype == np.float32
        assert np.abs(logits[valid] - expected).max() < 0.2 * expected.std()
    args = half, tokens, masks.positions_from_valid(valid), masked(masks.causal(valid))
    hidden, _ = jax.eval_shape(lambda params, *args: model.apply({"params": params}, *args), *args)
    assert hidden.dtype == jnp.bfloat16
