"""The arithmetic and the memory traffic that a step cannot do without, from shapes alone.

What the plain algorithm needs: prompts once a question, the head on response tokens only, attention over
the tokens that exist, nothing recomputed. Products count two FLOPs; norms, RoPE, softmax and the
optimizer are left out, as is usual for model FLOPs (2204.02311, appendix B).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from riskpo_jax.models.config import DecoderConfig


def layer_parameters(c: DecoderConfig) -> int:
    """Elements of the matrices of all layers: what is neither embedding, head, norm nor bias."""
    attention = 2 * c.hidden_size * c.head_dim * (c.num_heads + c.num_kv_heads)
    feed_forward = 3 * c.hidden_size * c.intermediate_size
    return c.num_layers * (attention + feed_forward)


def head_parameters(c: DecoderConfig) -> int:
    return c.vocab_size * c.hidden_size


def attention_flops(c: DecoderConfig, pairs: int) -> int:
    """Of q k and of the weighted sum of v, in all layers, for so many (query, key) pairs."""
    return 4 * c.num_layers * c.num_heads * c.head_dim * pairs


def causal_pairs(prompt_lengths_Q: Sequence[int], lengths_QxG: np.ndarray) -> int:
    """(query, key) pairs of prompts, and of responses to their prompt and to themselves.

    The last token of a response is drawn, and nothing follows it: it is no query.
    """
    p = np.asarray(prompt_lengths_Q, np.int64)[:, None]
    queries = np.asarray(lengths_QxG, np.int64) - 1
    prompts = p * (p + 1) // 2
    return int(prompts.sum() + (queries * p + queries * (queries + 1) // 2).sum())


def forward_flops(
    c: DecoderConfig, prompt_lengths_Q: Sequence[int], lengths_QxG: np.ndarray
) -> int:
    """FLOPs to score every response token once, or to sample it: the same products."""
    tokens = int(np.sum(prompt_lengths_Q) + np.sum(lengths_QxG) - np.size(lengths_QxG))
    return (
        2 * layer_parameters(c) * tokens
        + 2 * head_parameters(c) * int(np.sum(lengths_QxG))
        + attention_flops(c, causal_pairs(prompt_lengths_Q, lengths_QxG))
    )


def update_flops(c: DecoderConfig, prompt_lengths_Q: Sequence[int], lengths_QxG: np.ndarray) -> int:
    """6 x layer parameters x tokens + 6 x head x response tokens + 3 x attention: the backward pass
    has two products for each of the forward pass."""
    return 3 * forward_flops(c, prompt_lengths_Q, lengths_QxG)


def decode_bytes(
    c: DecoderConfig,
    prompt_lengths_Q: Sequence[int],
    lengths_QxG: np.ndarray,
    bytes_per_weight: int,
    bytes_per_key: int,
) -> int:
    """Bytes to read for all tokens after each response's first, which the prefill draws.

    With all rows decoded side by side, which takes the fewest steps: as many as the longest response
    has tokens, less one. Each reads the layers and the head once, the keys and values of a prompt once
    as long as one of its responses is unfinished, and those of the responses as far as they are filled.
    """
    lengths = np.asarray(lengths_QxG, np.int64)
    steps_Q = lengths.max(axis=1) - 1
    weights = int(steps_Q.max()) * (layer_parameters(c) + head_parameters(c)) * bytes_per_weight
    tokens = int((steps_Q * prompt_lengths_Q).sum() + (lengths * (lengths - 1) // 2).sum())
    return weights + tokens * 2 * c.num_layers * c.num_kv_heads * c.head_dim * bytes_per_key
