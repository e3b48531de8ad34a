"""Log-probabilities and entropies of response tokens under the trainer's model."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from riskpo_jax.models.attention import Attention, after_prompt
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.prompts import PromptStates
from riskpo_jax.sharding import take_rows

_LOGITS_AT_ONCE = 2**26  # elements of the [N, slots, V] block that a device computes at a time


def response_logprobs(
    model: Decoder,
    params: Any,
    states: PromptStates,
    prompt_lengths_Q: jax.Array,
    question_N: jax.Array,
    tokens_NxR: jax.Array,
    *,
    temperature: float,
    attention: Attention,
    shards: int,
) -> tuple[jax.Array, jax.Array]:
    """Scores every response token given its prompt and all before it, with logits / `temperature`.

    Args:
      states: of the Q prompts, which have `prompt_lengths_Q` tokens.
      question_N: the prompt that each of the N responses follows, counted within its data shard.

    Returns:
      float32[N, R] log-probabilities and float32[N, R] entropies (nats) of the distributions that the
      tokens were drawn from. Slots beyond a response's length hold finite garbage: mask them.
    """
    lengths_N = take_rows(prompt_lengths_Q, question_N, shards)
    hidden_NxRxM, _ = model.apply(
        {"params": params},
        tokens_NxR,
        lengths_N[:, None] + jnp.arange(tokens_NxR.shape[1])[None],
        after_prompt(attention, shards, question_N, prompt_lengths_Q),
        states.kv,
    )
    # A token is predicted by the one before it, the first by the prompt's last.
    first_Nx1xM = take_rows(states.last, question_N, shards)[:, None]
    return chunked_token_logprobs(
        lambda hidden: model.apply({"params": params}, hidden, method="unembed") / temperature,
        jnp.concatenate([first_Nx1xM, hidden_NxRxM[:, :-1]], axis=1),
        tokens_NxR,
        model.config.vocab_size,
        1 if model.mesh is None else model.mesh.size,
    )


def chunked_token_logprobs(
    unembed: Callable[[jax.Array], jax.Array],
    hidden_NxRxD: jax.Array,
    targets_NxR: jax.Array,
    vocab_size: int,
    devices: int = 1,
) -> tuple[jax.Array, jax.Array]:
    """log p(target) and entropy, a block of slots at a time, so that a large [N, R, V] never exists whole.

    A block is some slots of all N rows, which are divided over `devices`. Each is rematerialised in
    the backward pass; under plain autodiff every block's logits would be kept and the loop would save
    nothing. What fits into one block is computed at once and kept.
    """
    N, R = targets_NxR.shape
    chunk = max(1, min(R, devices * _LOGITS_AT_ONCE // (N * vocab_size)))
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


@jax.custom_vjp
def token_logprobs(logits_NxTxV: jax.Array, targets_NxT: jax.Array) -> tuple[jax.Array, jax.Array]:
    """log softmax(logits)[target] and the entropy of softmax(logits), both float32[N, T].

    H = log Z - E[logit], so that the log-probabilities of the whole vocabulary are never written down; and
    the backward pass is one expression, where autodiff would write several arrays of the logits' size.
    """
    return _token_logprobs(logits_NxTxV, targets_NxT)[0]


@jax.named_scope("logprobs")
def _token_logprobs(logits_NxTxV, targets_NxT):
    highest_NxT = logits_NxTxV.max(axis=-1)
    shifted_NxTxV = logits_NxTxV - highest_NxT[..., None]
    weights_NxTxV = jnp.exp(shifted_NxTxV)
    total_NxT = weights_NxTxV.sum(axis=-1)
    entropy_NxT = jnp.log(total_NxT) - (weights_NxTxV * shifted_NxTxV).sum(axis=-1) / total_NxT
    log_z_NxT = jnp.log(total_NxT) + highest_NxT
    chosen_NxT = jnp.take_along_axis(logits_NxTxV, targets_NxT[..., None], axis=-1)[..., 0]
    outputs = chosen_NxT - log_z_NxT, entropy_NxT
    return outputs, (logits_NxTxV, targets_NxT, log_z_NxT, entropy_NxT)


@jax.named_scope("logprobs")
def _token_logprobs_backward(saved, cotangents):
    """d log p_target = 1[target] - p, and d H = -p (log p + H)."""
    logits_NxTxV, targets_NxT, log_z_NxT, entropy_NxT = saved
    d_chosen, d_entropy = (cotangent[..., None] for cotangent in cotangents)
    logprobs_NxTxV = logits_NxTxV - log_z_NxT[..., None]
    p_NxTxV = jnp.exp(logprobs_NxTxV)
    at_target = jax.lax.broadcasted_iota(jnp.int32, p_NxTxV.shape, p_NxTxV.ndim - 1)
    at_target = (at_target == targets_NxT[..., None]).astype(p_NxTxV.dtype)
    d_logits = d_chosen * (at_target - p_NxTxV)
    d_logits -= d_entropy * p_NxTxV * (logprobs_NxTxV + entropy_NxT[..., None])
    return d_logits, None


token_logprobs.defvjp(_token_logprobs, _token_logprobs_backward)
