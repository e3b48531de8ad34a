"""Prompts as a model has read them: what sampling and training share between a question's responses."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from riskpo_jax.models.attention import KV, Attention, causal
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.sharding import LOGICAL_RULES, batch_sharding, data_shards, fit
from riskpo_jax.types import Prompts


@flax.struct.dataclass
class PromptStates:
    """last: [Q, M], hidden states after each prompt's last token. kv: [L, Q, K, P, D]."""

    last: jax.Array
    kv: KV


def read_prompts(
    model: Decoder, params: Any, prompts: Prompts, attention: Attention
) -> PromptStates:
    """One forward pass over the prompts. Padding comes out as finite garbage, to be hidden by length."""
    Q, P = prompts.tokens.shape
    positions_QxP = jnp.broadcast_to(jnp.arange(P), (Q, P))
    hidden_QxPxM, kv = model.apply(
        {"params": params}, prompts.tokens, positions_QxP, causal(attention)
    )
    last_Q = jnp.maximum(prompts.lengths - 1, 0)
    last_QxM = jnp.take_along_axis(hidden_QxPxM, last_Q[:, None, None], axis=1)[:, 0]
    return PromptStates(last_QxM, kv)


def states_sharding(config: DecoderConfig, mesh: Mesh) -> PromptStates:
    """Where prompt states lie: questions over the data axes, heads over `tensor`."""
    return PromptStates(batch_sharding(mesh), kv_sharding(config, mesh))


def kv_sharding(config: DecoderConfig, mesh: Mesh) -> NamedSharding:
    """Of keys and values [L, rows, K, ...]: rows over the data axes, heads over `tensor` if they divide."""
    rules = dict(LOGICAL_RULES)
    spec = PartitionSpec(None, rules["batch"], rules["kv_heads"])
    return fit(NamedSharding(mesh, spec), (1, data_shards(mesh), config.num_kv_heads))
