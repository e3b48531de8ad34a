"""Prompts as a model has read them: what sampling and training share between a question's responses."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from riskpo_jax.models.attention import KV, Attention, causal
from riskpo_jax.models.decoder import Decoder
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
