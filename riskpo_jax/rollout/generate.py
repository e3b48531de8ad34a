"""Sampling G responses to each question: one prefill a question, one decode loop for all rows."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from riskpo_jax.models import kv_cache, masks
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.kv_cache import KVCache
from riskpo_jax.rollout.sampling import SamplingParams, sample_token
from riskpo_jax.types import Prompts, Rollout


class _Decoding(NamedTuple):
    """The loop's carry: `step` tokens of every row are drawn, `tokens_N` holds the latest."""

    step: jax.Array
    tokens_N: jax.Array
    done_N: jax.Array
    cache: KVCache
    rollout: Rollout


def generate(
    model: Decoder,
    params: Any,
    key: jax.Array,
    prompts: Prompts,
    *,
    group_size: int,
    max_response_length: int,
    sampling: SamplingParams,
    eos_ids: tuple[int, ...],
) -> Rollout:
    """Draws `group_size` responses to every prompt; jit it with all but arrays static.

    The loop ends when every row has drawn a token of `eos_ids` (counted in its length) or
    `max_response_length` tokens. Row n = q * group_size + g answers question q.
    """
    Q, P = prompts.tokens.shape
    N, R = Q * group_size, max_response_length
    logits_QxV, cache = prefill(model, params, prompts, P + R)
    cache = repeat_rows(cache, group_size)
    prompt_lengths_N = jnp.repeat(prompts.lengths, group_size)
    # All P + R slots count as valid here: `causal` hides those that are not written yet.
    valid_NxS = masks.valid_slots(prompt_lengths_N, jnp.full((N,), R), P, R)

    def draw(step: jax.Array, logits_NxV: jax.Array, done_N: jax.Array, rollout: Rollout):
        tokens_N, logprobs_N = sample_token(jax.random.fold_in(key, step), logits_NxV, sampling)
        rollout = rollout.replace(
            tokens=rollout.tokens.at[:, step].set(jnp.where(done_N, 0, tokens_N)),
            logprobs=rollout.logprobs.at[:, step].set(jnp.where(done_N, 0.0, logprobs_N)),
            lengths=rollout.lengths + ~done_N,
        )
        return tokens_N, done_N | jnp.isin(tokens_N, jnp.asarray(eos_ids)), rollout

    def decode(carry: _Decoding) -> _Decoding:
        hidden_Nx1xD, cache = model.apply(
            {"params": params},
            carry.tokens_N[:, None],
            (prompt_lengths_N + carry.step - 1)[:, None],
            masks.causal(valid_NxS, carry.cache.index, 1),
            carry.cache,
        )
        logits_NxV = model.apply({"params": params}, hidden_Nx1xD[:, 0], method="unembed")
        tokens_N, done_N, rollout = draw(carry.step, logits_NxV, carry.done_N, carry.rollout)
        return _Decoding(carry.step + 1, tokens_N, done_N, cache, rollout)

    def unfinished(carry: _Decoding) -> jax.Array:
        return (carry.step < R) & ~jnp.all(carry.done_N)

    empty = Rollout(
        tokens=jnp.zeros((N, R), jnp.int32),
        lengths=jnp.zeros((N,), jnp.int32),
        logprobs=jnp.zeros((N, R), jnp.float32),
        truncated=jnp.zeros((N,), bool),
    )
    logits_NxV = jnp.repeat(logits_QxV, group_size, axis=0)
    first = draw(jnp.int32(0), logits_NxV, jnp.zeros((N,), bool), empty)
    tokens_N, done_N, rollout = first
    carry = _Decoding(jnp.int32(1), tokens_N, done_N, cache, rollout)
    final = jax.lax.while_loop(unfinished, decode, carry)
    return final.rollout.replace(truncated=~final.done_N)


def prefill(model: Decoder, params: Any, prompts: Prompts, slots: int) -> tuple[jax.Array, KVCache]:
    """Logits after the last prompt token, float32[Q, V], and a cache of `slots` slots behind them.

    The head runs on one position a question, never over the prompt.
    """
    Q, P = prompts.tokens.shape
    valid_QxP = masks.valid_slots(prompts.lengths, jnp.zeros_like(prompts.lengths), P, 0)
    valid_QxS = jnp.pad(valid_QxP, ((0, 0), (0, slots - P)))
    cache = kv_cache.init_cache(model.config, Q, slots, model.dtype)
    hidden_QxPxD, cache = model.apply(
        {"params": params},
        prompts.tokens,
        masks.positions_from_valid(valid_QxP),
        masks.causal(valid_QxS, 0, P),
        cache,
    )
    return model.apply({"params": params}, hidden_QxPxD[:, -1], method="unembed"), cache


def repeat_rows(cache: KVCache, times: int) -> KVCache:
    """Each row's keys and values `times` over, for the group that shares a prompt."""
    return cache.replace(k=jnp.repeat(cache.k, times, axis=1), v=jnp.repeat(cache.v, times, axis=1))
