"""Decoding: a few tokens for every response slot in one loop on the device.

Letters as in `rollout.cache`; G responses a prompt slot has room for, H query heads, g = H / K queries a key.
"""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from riskpo_jax.masked import length_mask
from riskpo_jax.models.attention import KV
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.rollout.cache import Cache, Int8, Stored
from riskpo_jax.rollout.sampling import SamplingParams, sample_token
from riskpo_jax.sharding import take_rows


@flax.struct.dataclass
class Slots:
    """The responses that are being decoded.

    token: int32[S], the latest token, whose successor is drawn next. drawn: int32[S], tokens so far.
    alive: bool[S]. limit: int32[S], tokens at which a response is cut off. key: PRNG key[S] of each
    response. begin: int32[S], its first place on the timeline. prompt, member: int32[S], the prompt slot
    it reads, counted within its data shard, and its place among that prompt's. members: int32[Q * G], the
    response in each place, counted likewise; what stands in an empty place is computed and dropped.
    """

    token: jax.Array
    drawn: jax.Array
    alive: jax.Array
    limit: jax.Array
    key: jax.Array
    begin: jax.Array
    prompt: jax.Array
    member: jax.Array
    members: jax.Array


class Drawn(NamedTuple):
    """tokens: int32[S, W], logprobs: float32[S, W], 0 from a response's end on. steps: int32, columns used.

    counts: int32[S], bool[S] alive: the slots' `drawn` and `alive` afterwards.
    """

    tokens: jax.Array
    logprobs: jax.Array
    steps: jax.Array
    counts: jax.Array
    alive: jax.Array


def decode(
    model: Decoder,
    params: Any,
    cache: Cache,
    recent: KV,
    filled: jax.Array,
    slots: Slots,
    steps: jax.Array,
    *,
    width: int,
    sampling: SamplingParams,
    eos_ids: tuple[int, ...],
    shards: int,
) -> tuple[KV, Slots, Drawn]:
    """Draws up to `steps` <= `width` tokens for every slot, fewer when all responses have ended.

    recent: the block [L, S, K, T, D] of the timeline whose first `filled` places are written; the caller
    sees to it that `steps` more have room.

    Returns:
      The recent block and the slots after it, and the tokens.
    """
    S = slots.token.shape[0]
    prompt_lengths_S = take_rows(cache.prompt_lengths, slots.prompt, shards)
    history = sum(block_length(block) for block in cache.blocks)

    def step(carry):
        i, recent, slots, tokens_SxW, logprobs_SxW = carry
        now = history + filled + i
        hidden_Sx1xM, kv = model.apply(
            {"params": params},
            slots.token[:, None],
            (prompt_lengths_S + slots.drawn)[:, None],
            Partial(partial(attend, shards), slots, cache.prompt_lengths, now),
            (cache.prompts, cache.blocks, recent),
        )
        logits_SxV = model.apply({"params": params}, hidden_Sx1xM[:, 0], method="unembed")
        keys_S = jax.vmap(jax.random.fold_in)(slots.key, slots.drawn)
        token_S, logprob_S = sample_token(keys_S, logits_SxV, sampling)
        tokens_SxW = tokens_SxW.at[:, i].set(jnp.where(slots.alive, token_S, 0))
        logprobs_SxW = logprobs_SxW.at[:, i].set(jnp.where(slots.alive, logprob_S, 0.0))
        count_S = slots.drawn + slots.alive
        ended_S = jnp.isin(token_S, jnp.asarray(eos_ids)) | (count_S >= slots.limit)
        slots = slots.replace(token=token_S, drawn=count_S, alive=slots.alive & ~ended_S)
        return i + 1, written(recent, kv, filled + i), slots, tokens_SxW, logprobs_SxW

    def unfinished(carry) -> jax.Array:
        i, _, slots, *_ = carry
        return (i < steps) & jnp.any(slots.alive)

    empty = jnp.zeros((S, width), jnp.int32), jnp.zeros((S, width), jnp.float32)
    i, recent, slots, tokens_SxW, logprobs_SxW = jax.lax.while_loop(
        unfinished, step, (jnp.int32(0), recent, slots, *empty)
    )
    return recent, slots, Drawn(tokens_SxW, logprobs_SxW, i, slots.drawn, slots.alive)


def written(block: KV, kv: KV, place: jax.Array) -> KV:
    """The block with a token's KV [L, S, K, 1, D] at a place of the timeline."""
    at = (0, 0, 0, place, 0)
    return KV(
        *(
            jax.lax.dynamic_update_slice(whole, new.astype(whole.dtype), at)
            for whole, new in zip(block, kv, strict=True)
        )
    )


def block_length(block: KV) -> int:
    return (block.k.values if isinstance(block.k, Int8) else block.k).shape[-2]


def attend(
    shards: int, slots: Slots, prompt_lengths_Q, now, q_Sx1xHxD, kv: KV, past: tuple
) -> jax.Array:
    """One softmax over the prompt, the blocks of the timeline and the token itself.

    Each part is attended to by itself and the parts are merged exactly. now: the timeline's place of the
    token, behind all that is written.
    """
    prompts, blocks, recent = past
    S, _, H, D = q_Sx1xHxD.shape
    q_SxKxgxD = (q_Sx1xHxD[:, 0] * D**-0.5).reshape(S, kv.k.shape[1], -1, D)
    parts = [_prompt_part(shards, slots, prompt_lengths_Q, q_SxKxgxD, prompts)]
    start = 0
    for block in (*blocks, recent):
        place_T = start + jnp.arange(block_length(block))
        seen_SxT = (place_T[None] >= slots.begin[:, None]) & (place_T < now)[None]
        parts.append(_part(q_SxKxgxD, block, seen_SxT))
        start += block_length(block)
    itself = _part(q_SxKxgxD, kv, jnp.ones((S, 1), bool))
    return _merged([*parts, itself]).astype(q_Sx1xHxD.dtype).reshape(S, 1, H, D)


class _Part(NamedTuple):
    """Attention to a part of the slots, not yet divided: float32 [..., g] maxima and sums, [..., g, D]."""

    highest: jax.Array
    total: jax.Array
    values: jax.Array


def _prompt_part(shards: int, slots: Slots, lengths_Q, q_SxKxgxD, prompts: KV) -> _Part:
    """The responses of a question read its prompt together, as the rows of one product."""
    S, K, g, D = q_SxKxgxD.shape
    Q = lengths_Q.shape[0]
    q = take_rows(q_SxKxgxD, slots.members, shards).reshape(Q, -1, K, g, D)
    G = q.shape[1]
    q_QxKxGgxD = q.swapaxes(1, 2).reshape(Q, K, G * g, D)
    length = block_length(prompts)
    part = _part(q_QxKxGgxD, prompts, length_mask(lengths_Q, length))

    def by_response(x: jax.Array) -> jax.Array:
        x = x.reshape(Q, K, G, g, *x.shape[3:]).swapaxes(1, 2).reshape(Q * G, K, g, *x.shape[3:])
        return take_rows(x, slots.prompt * G + slots.member, shards)

    return _Part(*map(by_response, part))


def _part(q_BxKxgxD: jax.Array, kv: KV, seen_BxT: jax.Array) -> _Part:
    k, k_scale = _as_stored(kv.k, q_BxKxgxD.dtype)
    v, v_scale = _as_stored(kv.v, q_BxKxgxD.dtype)
    in_float32 = partial(jnp.einsum, preferred_element_type=jnp.float32)
    scores = in_float32("bkgd,bktd->bkgt", q_BxKxgxD, k) * k_scale
    scores = jnp.where(seen_BxT[:, None, None], scores, jnp.finfo(jnp.float32).min)
    highest = scores.max(axis=-1)
    weights = jnp.exp(scores - highest[..., None])
    values = in_float32("bkgt,bktd->bkgd", (weights * v_scale).astype(v.dtype), v)
    return _Part(highest, weights.sum(axis=-1), values)


def _as_stored(x: Stored, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array | float]:
    """What products read, in `dtype`, and the scale [B, K, 1, T] that its slots are off by."""
    if isinstance(x, Int8):
        return x.values.astype(dtype), x.scale[:, :, None]
    return x.astype(dtype), 1.0


def _merged(parts: list[_Part]) -> jax.Array:
    """The softmax over all parts together: each is rescaled from its own maximum to the common one."""
    highest = jnp.stack([part.highest for part in parts]).max(axis=0)
    scales = [jnp.exp(part.highest - highest) for part in parts]
    total = sum(scale * part.total for scale, part in zip(scales, parts, strict=True))
    values = sum(scale[..., None] * part.values for scale, part in zip(scales, parts, strict=True))
    return values / total[..., None]
