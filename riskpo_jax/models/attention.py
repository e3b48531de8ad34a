"""What a token sees: attention over keys and values, and the functions that a decoder is given for it.

Letters: B rows, T query tokens, S slots attended to, H query heads, K key-value heads, D features a head.
A layer calls `attend(q_BxTxHxD, kv, past)` with the keys and values of its own tokens and its part of what
came before, and gets [B, T, H, D].
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.tree_util import Partial

from riskpo_jax.masked import length_mask
from riskpo_jax.sharding import take_rows

Attend = Callable[[jax.Array, "KV", Any], jax.Array]
"""A `jax.tree_util.Partial`, so that the arrays it holds (masks, lengths) pass through scan and remat."""

Attention = Callable[..., jax.Array]
"""(q_BxTxHxD, KV [B, K, S, D], seen_BxS, offset) -> [B, T, H, D]: token t sees the slots s <= t + offset
that `seen_BxS` marks; where that is None, all of them."""


class KV(NamedTuple):
    """Keys and values, each [..., K, S, D]: a head's slots lie together, as its products read them."""

    k: jax.Array
    v: jax.Array


def dense(q_BxTxHxD: jax.Array, kv: KV, mask_BxTxS: jax.Array) -> jax.Array:
    """softmax(q k / sqrt(D)) v under the mask, [B, T, H, D]; query head h reads key head h // (H / K).

    The softmax is in float32. A query that may see nothing gets the mean of the values, not NaN.
    """
    B, T, H, D = q_BxTxHxD.shape
    K, S = kv.k.shape[1:3]
    q = (q_BxTxHxD * D**-0.5).reshape(B, T, K, -1, D).swapaxes(1, 2).reshape(B, K, -1, D)
    scores = jnp.einsum("bkqd,bksd->bkqs", q, kv.k, preferred_element_type=jnp.float32)
    scores = scores.reshape(B, K, T, H // K, S)
    scores = jnp.where(mask_BxTxS[:, None, :, None], scores, jnp.finfo(jnp.float32).min)
    weights = jax.nn.softmax(scores, axis=-1).astype(kv.v.dtype).reshape(B, K, -1, S)
    y = jnp.einsum("bkqs,bksd->bkqd", weights, kv.v)
    return y.reshape(B, K, T, H // K, D).swapaxes(1, 2).reshape(B, T, H, D)


def xla(
    q_BxTxHxD: jax.Array, kv: KV, seen_BxS: jax.Array | None, offset: int, block: int = 512
) -> jax.Array:
    """`dense`, a block of queries at a time, each recomputed in the backward pass.

    So the scores of a long sequence never exist whole. A sequence of one block is computed at once and
    kept.
    """
    B, T, H, D = q_BxTxHxD.shape
    slots = jnp.arange(kv.k.shape[2])
    seen_BxS = jnp.ones((B, slots.size), bool) if seen_BxS is None else seen_BxS

    def rows(q: jax.Array, first: jax.Array) -> jax.Array:
        asking = first + offset + jnp.arange(q.shape[1])
        mask = seen_BxS[:, None, :] & (slots[None, :] <= asking[:, None])[None]
        return dense(q, kv, mask)

    if T <= block:
        return rows(q_BxTxHxD, 0)
    padded = jnp.pad(q_BxTxHxD, ((0, 0), (0, -T % block), (0, 0), (0, 0)))
    blocks = padded.reshape(B, -1, block, H, D).swapaxes(0, 1)
    begins = jnp.arange(len(blocks)) * block
    y = jax.lax.map(lambda args: jax.checkpoint(rows)(*args), (blocks, begins))
    return y.swapaxes(0, 1).reshape(B, -1, H, D)[:, :T]


def masked(mask_BxTxS: jax.Array) -> Attend:
    """Each token sees the slots of the past and of its own row that the mask marks; past: KV or None."""
    return Partial(_masked, mask_BxTxS)


def _masked(mask_BxTxS, q_BxTxHxD, kv: KV, past: KV | None) -> jax.Array:
    return dense(q_BxTxHxD, kv if past is None else behind(past, kv), mask_BxTxS)


def causal(attention: Attention) -> Attend:
    """Each token sees its own row up to itself: sequences that begin in slot 0."""
    return Partial(partial(_causal, attention))


def _causal(attention: Attention, q_BxTxHxD, kv: KV, past: None) -> jax.Array:
    return attention(q_BxTxHxD, kv, None, 0)


def after_prompt(
    attention: Attention, shards: int, question_N: jax.Array, lengths_Q: jax.Array
) -> Attend:
    """Each token sees the prompt of its row's question, and its own row up to itself.

    past: KV [Q, K, P, D] of prompts that begin in slot 0 and have `lengths_Q` tokens. question_N: the
    question of each row, counted within the row's data shard of `shards`.
    """
    return Partial(partial(_after_prompt, attention, shards), question_N, lengths_Q)


def _after_prompt(attention, shards, question_N, lengths_Q, q_NxTxHxD, kv: KV, past: KV):
    prompt = KV(*(take_rows(x, question_N, shards) for x in past))
    N, P, T = q_NxTxHxD.shape[0], prompt.k.shape[2], kv.k.shape[2]
    seen_NxP = length_mask(take_rows(lengths_Q, question_N, shards), P)
    seen = jnp.concatenate([seen_NxP, jnp.ones((N, T), bool)], axis=1)
    return attention(q_NxTxHxD, behind(prompt, kv), seen, P)


def behind(past: KV, kv: KV) -> KV:
    """The slots of `past` and, behind them, those of `kv`."""
    return KV(*(jnp.concatenate(pair, axis=-2) for pair in zip(past, kv, strict=True)))
