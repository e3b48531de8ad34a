"""Supervised warm start: maximum likelihood of solutions, in batches of (prompt, solution)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from riskpo_jax.algorithms import losses
from riskpo_jax.config import Config
from riskpo_jax.masked import Mean, length_mask
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.training.accumulate import Metrics
from riskpo_jax.training.micro_batches import Sequences
from riskpo_jax.training.setup import make_update
from riskpo_jax.training.state import Purpose, TrainState, purpose_key
from riskpo_jax.types import MicroBatch

SupervisedStep = Callable[[TrainState, Any, Sequences], tuple[TrainState, dict[str, float]]]


def make_supervised_step(
    config: Config, model: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh
) -> SupervisedStep:
    """A (state, frozen, solutions) -> (state, metrics); `frozen` as in `make_train_step`.

    The loss is the mean token NLL in nats of one solution to each prompt.
    """
    update = make_update(config, model, optimizer, mesh, negative_log_likelihood, temperature=1.0)

    def step(
        state: TrainState, frozen: Any, solutions: Sequences
    ) -> tuple[TrainState, dict[str, float]]:
        count = len(solutions.prompts.lengths)
        key = purpose_key(state.key, Purpose.ROUNDING, state.step)
        params, opt_state, metrics = update(
            state.params, state.opt_state, frozen, None, solutions, np.arange(count), key
        )
        state = state.replace(
            params=params,
            opt_state=opt_state,
            step=state.step + 1,
            position=state.position + count,
        )
        metrics = jax.device_get(metrics)
        metrics["loss/nll"] = metrics.pop("loss/total")
        means = {name: m.value() if isinstance(m, Mean) else m for name, m in metrics.items()}
        return state, {name: float(value) for name, value in means.items()}

    return step


def negative_log_likelihood(
    logprobs_NxR: jax.Array, entropy_NxR: jax.Array, reference_NxR: None, batch: MicroBatch
) -> tuple[Mean, Metrics]:
    mask_NxR = length_mask(batch.lengths, batch.tokens.shape[1])
    loss = losses.token_mean(-logprobs_NxR, mask_NxR)
    return loss, {"policy/entropy": losses.token_mean(entropy_NxR, mask_NxR)}
