"""Supervised warm start: maximum likelihood of solutions, in mini-batches of (prompt, solution)."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import optax

from riskpo_jax import masked
from riskpo_jax.algorithms import losses
from riskpo_jax.models import lora
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.training.accumulate import accumulate_gradients, split_rows
from riskpo_jax.training.logprobs import response_logprobs
from riskpo_jax.training.optimizer import apply_finite
from riskpo_jax.training.state import Purpose, TrainState, purpose_key


@flax.struct.dataclass
class SupervisedBatch:
    """Solutions to imitate; the layout of `types.TrainBatch` without what only RL needs.

    prompt_tokens: int32[N, P], left-padded. prompt_lengths: int32[N]. response_tokens: int32[N, R],
    right-padded, ending in an end token. response_lengths: int32[N].
    """

    prompt_tokens: jax.Array
    prompt_lengths: jax.Array
    response_tokens: jax.Array
    response_lengths: jax.Array


def make_supervised_step(
    model: Decoder, optimizer: optax.GradientTransformation, micro_batches: int
):
    """A jittable (state, frozen, SupervisedBatch) -> (state, metrics); `frozen` as in `make_train_step`.

    The loss is the mean token NLL in nats.
    """

    def negative_log_likelihood(params: Any, batch: SupervisedBatch):
        logprobs_NxR, entropy_NxR = response_logprobs(
            model,
            params,
            batch.prompt_tokens,
            batch.prompt_lengths,
            batch.response_tokens,
            batch.response_lengths,
            temperature=1.0,
        )
        mask_NxR = masked.length_mask(batch.response_lengths, batch.response_tokens.shape[1])
        loss = losses.token_mean(-logprobs_NxR, mask_NxR)
        return loss, {"policy/entropy": losses.token_mean(entropy_NxR, mask_NxR)}

    def step(
        state: TrainState, frozen: Any, batch: SupervisedBatch
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        gradients, loss, metrics = accumulate_gradients(
            lambda params, rows: negative_log_likelihood(lora.join(frozen, params), rows),
            state.params,
            split_rows(batch, micro_batches),
        )
        key = purpose_key(state.key, Purpose.ROUNDING, state.step)
        params, opt_state, update_metrics = apply_finite(
            optimizer, gradients, state.opt_state, state.params, key
        )
        state = state.replace(
            params=params,
            opt_state=opt_state,
            step=state.step + 1,
            position=state.position + batch.prompt_lengths.shape[0],
        )
        reduced = {name: metric.value() for name, metric in metrics.items()}
        return state, {"loss/nll": loss.value(), **reduced, **update_metrics}

    return step
