"""The pytrees that travel between the stations.

Letters: Q questions, G responses a question, N = Q * G sequences (row n = q * G + g), P prompt and
R response slots (both right-padded), K bundles, B questions a bundle (Q = K * B), L levels.
"""

from __future__ import annotations

import flax.struct
import jax


@flax.struct.dataclass
class Prompts:
    """A batch of questions as tokens.

    tokens: int32[Q, P], right-padded. lengths: int32[Q], tokens without the padding.
    """

    tokens: jax.Array
    lengths: jax.Array


@flax.struct.dataclass
class Rollout:
    """What the sampler produced, and the log-probabilities it had for it.

    tokens: int32[N, R]. lengths: int32[N], including the end token. logprobs: float32[N, R] under the
    whole softmax at the sampling temperature (before top-k and top-p), 0 beyond the length.
    truncated: bool[N], no end token within R.
    """

    tokens: jax.Array
    lengths: jax.Array
    logprobs: jax.Array
    truncated: jax.Array


@flax.struct.dataclass
class MicroBatch:
    """Responses of some questions with the advantage of each, ready for the clipped loss.

    number: int32[N], the response's in its rollout, -1 for a row that only fills the shape. question:
    int32[N], the prompt that it follows, counted within the row's data shard. tokens: int32[N, R].
    lengths: int32[N], 0 for a filling row. behaviour_logprobs: float32[N, R], of the policy that the
    tokens were drawn from. advantages: float32[N], broadcast over a response's tokens.
    """

    number: jax.Array
    question: jax.Array
    tokens: jax.Array
    lengths: jax.Array
    behaviour_logprobs: jax.Array
    advantages: jax.Array


@flax.struct.dataclass
class TrackerState:
    """Online quantile estimates of the bundle score.

    values: float32[L], ascending with the tracked levels. step: int32 scalar, updates made; 0 means that
    `values` are not initialised yet.
    """

    values: jax.Array
    step: jax.Array
