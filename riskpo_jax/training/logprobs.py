"""Log-probabilities and entropies of response tokens under the trainer's model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from riskpo_jax.models import masks
from riskpo_jax.models.decoder import Decoder

_LOGITS_AT_ONCE = 2**26  # elements of the [N, slots, V] block that is computed at a time


def response_logprobs(
    model: Decoder,
    params: Any,
    prompt_tokens_NxP: jax.Array,
    prompt_lengths_N: jax.Array,
    response_tokens_NxR: jax.Array,
    response_lengths_N: jax.Array,
    temperature: float,
) -> tuple[jax.Array, jax.Array]:
    """Scores every response token given all before it, with logits divided by `temperature`.

    Returns:
      float32[N, R] log-probabilities and float32[N, R] entropies (nats) of the distributions that the
      tokens were drawn from. Slots beyond a response's length hold finite garbage: mask them.
    """
    P, R = prompt_tokens_NxP.shape[1], response_tokens_NxR.shape[1]
    tokens_NxT = jnp.concatenate([prompt_tokens_NxP, response_tokens_NxR], axis=1)
    valid_NxT = masks.valid_slots(prompt_lengths_N, response_lengths_N, P, R)
    positions_NxT = masks.positions_from_valid(valid_NxT)
    hidden_NxTxD, _ = model.apply(
        {"params": params}, tokens_NxT, positions_NxT, masks.causal(valid_NxT)
    )
    return chunked_token_logprobs(
        lambda hidden: model.apply({"params": params}, hidden, method="unembed") / temperature,
        hidden_NxTxD[:, P - 1 : -1],
        response_tokens_NxR,
        model.config.vocab_size,
    )


def chunked_token_logprobs(
    unembed: Callable[[jax.Array], jax.Array],
    hidden_NxRxD: jax.Array,
    targets_NxR: jax.Array,
    vocab_size: int,
) -> tuple[jax.Array, jax.Array]:
    """log p(target) and entropy, a block of slots at a time, so that a large [N, R, V] never exists whole.

    A block is at least one slot of all N rows: the micro-batch bounds it. Each is rematerialised in the
    backward pass; under plain autodiff every block's logits would be kept and the loop would save nothing.
    What fits into one block is computed at once and kept.
    """
    N, R = targets_NxR.shape
    chunk = max(1, min(R, _LOGITS_AT_ONCE // (N * vocab_size)))
    if chunk == R:
        return token_logprobs(unembed(hidden_NxRxD), targets_NxR)
    padding = -R % chunk

    def to_chunks(values: jax.Array) -> jax.Array:
        widths = [(0, 0), (0, padding)] + [(0, 0)] * (values.ndim - 2)
        chunks = jnp.pad(values, widths).reshape(N, -1, chunk, *values.shape[2:])
        return jnp.swapaxes(chunks, 0, 1)

    @jax.checkpoint
    def one_chunk(hidden_and_targets):
        hidden, targets = hidden_and_targets
        return token_logprobs(unembed(hidden), targets)

    outputs = jax.lax.map(one_chunk, (to_chunks(hidden_NxRxD), to_chunks(targets_NxR)))
    return jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1).reshape(N, -1)[:, :R], outputs)


@jax.named_scope("logprobs")
def token_logprobs(logits_NxTxV: jax.Array, targets_NxT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log softmax(logits)[target] and the entropy of softmax(logits), both float32[N, T]."""
    logprobs_NxTxV = jax.nn.log_softmax(logits_NxTxV, axis=-1)
    chosen = jnp.take_along_axis(logprobs_NxTxV, targets_NxT[..., None], axis=-1)[..., 0]
    return chosen, -jnp.sum(jnp.exp(logprobs_NxTxV) * logprobs_NxTxV, axis=-1)
