"""Small decoders with weights far from their initial values, so that every parameter counts."""

import functools
from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest

from riskpo_jax.models import masks
from riskpo_jax.models.attention import behind, masked
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.lora import Lora, split
from riskpo_jax.models.partitioning import abstract_params, init_params
from riskpo_jax.models.rope import Llama3Scaling
from riskpo_jax.sharding import make_mesh

_FAMILIES = {
    "qwen2": {},
    "qwen3": {"model_type": "qwen3", "qkv_bias": False, "qk_norm": True, "tie_embeddings": True},
    "llama": {
        "model_type": "llama", "o_bias": True, "mlp_bias": True,
        "rope_scaling": Llama3Scaling(8.0, 1.0, 4.0, 16),
    },
}  # fmt: skip


def _config(**changes) -> DecoderConfig:
    sizes = {
        "vocab_size": 37, "hidden_size": 24, "intermediate_size": 20, "num_layers": 3,
        "num_heads": 4, "num_kv_heads": 2, "head_dim": 8, "rope_theta": 1000.0,
    }  # fmt: skip
    return DecoderConfig(**(sizes | changes))


@functools.cache
def _random_params(config: DecoderConfig, seed: int = 0) -> Any:
    params = init_params(Decoder(config), jax.random.key(seed), make_mesh())
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape, np.float32), params)


def _random_adapters(config: DecoderConfig, lora: Lora, seed: int = 1) -> Any:
    """Adapters whose updates are as large as the weights: B is not 0 as it is at the start."""
    abstract = nn.unbox(abstract_params(Decoder(config, lora=lora)))
    rng = np.random.default_rng(seed)
    _, adapters = split(abstract)
    return jax.tree.map(lambda x: 0.3 * rng.standard_normal(x.shape, np.float32), adapters)


@functools.partial(jax.jit, static_argnums=0)
def _full(model, params, tokens_BxT, valid_BxT):
    positions = masks.positions_from_valid(valid_BxT)
    attend = masked(masks.causal(valid_BxT))
    hidden, _ = model.apply({"params": params}, tokens_BxT, positions, attend)
    return model.apply({"params": params}, hidden, method="unembed")


@functools.partial(jax.jit, static_argnums=0)
def _step(model, params, past, tokens_BxT, positions_BxT, valid_BxS):
    """Logits of T tokens behind S - T others, and the keys and values of all S."""
    T = tokens_BxT.shape[1]
    attend = masked(masks.causal(valid_BxS, valid_BxS.shape[1] - T, T))
    hidden, kv = model.apply({"params": params}, tokens_BxT, positions_BxT, attend, past)
    logits = model.apply({"params": params}, hidden, method="unembed")
    return logits, kv if past is None else behind(past, kv)


def _full_logits(model: Decoder, params: Any, tokens_BxT, valid_BxT) -> np.ndarray:
    """float32 logits of a full forward pass."""
    return np.asarray(_full(model, params, tokens_BxT, valid_BxT))


def _cached_logits(model: Decoder, params: Any, tokens_BxT, valid_BxT, prefill: int) -> np.ndarray:
    """The same logits from a prefill and then one token at a time."""
    T = tokens_BxT.shape[1]
    positions_BxT = np.asarray(masks.positions_from_valid(valid_BxT))
    past, parts = None, []
    for a, b in [(0, prefill)] + [(t, t + 1) for t in range(prefill, T)]:
        logits, past = _step(
            model, params, past, tokens_BxT[:, a:b], positions_BxT[:, a:b], valid_BxT[:, :b]
        )
        parts.append(np.asarray(logits))
    return np.concatenate(parts, axis=1)


@pytest.fixture
def make_config() -> Callable[..., DecoderConfig]:
    return _config


@pytest.fixture(params=_FAMILIES)
def family_config(request) -> DecoderConfig:
    """A small model of every family in turn."""
    return _config(**_FAMILIES[request.param])


@pytest.fixture
def random_params() -> Callable[..., Any]:
    return _random_params


@pytest.fixture
def random_adapters() -> Callable[..., Any]:
    return _random_adapters


@pytest.fixture
def full_logits() -> Callable[..., np.ndarray]:
    return _full_logits


@pytest.fixture
def cached_logits() -> Callable[..., np.ndarray]:
    return _cached_logits
