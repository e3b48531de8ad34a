"""One RiskPO step after the rollout: rewards -> advantages -> clipped updates."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from riskpo_jax.algorithms import losses
from riskpo_jax.config import Config
from riskpo_jax.masked import Mean, length_mask, masked_mean
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.training.accumulate import Metrics
from riskpo_jax.training.advantages import make_advantage_fn
from riskpo_jax.training.micro_batches import Sequences
from riskpo_jax.training.setup import make_update
from riskpo_jax.training.state import Purpose, TrainState, purpose_key
from riskpo_jax.training.update import TokenLoss, Update
from riskpo_jax.types import MicroBatch, Prompts, Rollout

Aggregate = Callable[[jax.Array, jax.Array], Mean]
TrainStep = Callable[
    [TrainState, Any, Prompts, Rollout, np.ndarray, Any], tuple[TrainState, dict[str, float]]
]


def make_train_step(
    config: Config, model: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainStep:
    """`train_step_with` the update that the configuration describes."""
    return train_step_with(make_policy_update(config, model, optimizer, mesh), config)


def make_policy_update(
    config: Config, model: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh
) -> Update:
    """The update by the clipped loss."""
    temperature = config.rollout.temperature
    return make_update(config, model, optimizer, mesh, make_token_loss(config), temperature)


def train_step_with(update: Update, config: Config) -> TrainStep:
    """A (state, frozen, prompts, rollout, rewards_QxG, reference) -> (state, metrics); the state is donated.

    `prompts`, `rollout` and rewards are host arrays. `frozen` is what the policy has besides
    `state.params`, {} where all of it trains; `reference` is the `params` of the initial policy where the
    KL penalty is on, else None.
    """
    advantage_fn = jax.jit(make_advantage_fn(config.algorithm))
    train = config.train

    def train_step(
        state: TrainState,
        frozen: Any,
        prompts: Prompts,
        rollout: Rollout,
        rewards_QxG: np.ndarray,
        reference: Any,
    ) -> tuple[TrainState, dict[str, float]]:
        bundle_key = purpose_key(state.key, Purpose.BUNDLES, state.step)
        advantages_QxG, tracker, metrics = advantage_fn(bundle_key, rewards_QxG, state.tracker)
        advantages_N = np.asarray(jax.device_get(advantages_QxG)).reshape(-1)
        sequences = Sequences(prompts, rollout, advantages_N)
        if train.old_logprobs == "trainer":
            logprobs_NxR = update.logprobs(state.params, frozen, sequences)
            metrics["policy/mismatch_kl"] = mismatch_kl(rollout, logprobs_NxR)
            sequences = dataclasses.replace(
                sequences, responses=rollout.replace(logprobs=logprobs_NxR)
            )
        rounding_key = purpose_key(state.key, Purpose.ROUNDING, state.step)
        keys = jax.random.split(rounding_key, train.minibatches * train.epochs)
        params, opt_state, reports = state.params, state.opt_state, []
        for key, questions in zip(keys, dealt_questions(config, state), strict=True):
            params, opt_state, report = update(
                params, opt_state, frozen, reference, sequences, questions, key
            )
            reports.append(report)
        state = state.replace(
            params=params,
            opt_state=opt_state,
            step=state.step + 1,
            position=state.position + rewards_QxG.shape[0],
            tracker=tracker,
        )
        metrics, reports = jax.device_get((metrics, reports))
        metrics = {name: float(value) for name, value in metrics.items()}
        return state, reduce_updates(reports) | rollout_metrics(rollout, rewards_QxG) | metrics

    return train_step


def make_token_loss(config: Config) -> TokenLoss:
    """loss = -min(r A, clip(r, 1 - eps_low, 1 + eps_high) A) + kl_coef KL - entropy_coef H, per token."""
    c = config.algorithm
    importance_ratio = {"token": losses.token_ratio, "sequence": losses.sequence_ratio}[c.ratio]
    aggregate = _aggregation(c.loss_aggregation, config.rollout.max_response_length)

    def token_loss(
        logprobs_NxR: jax.Array,
        entropy_NxR: jax.Array,
        reference_NxR: jax.Array | None,
        batch: MicroBatch,
    ) -> tuple[Mean, Metrics]:
        mask_NxR = length_mask(batch.lengths, batch.tokens.shape[1])
        # Padding is scored as garbage; at the behaviour's own value it stays finite.
        logprobs_NxR = jnp.where(mask_NxR, logprobs_NxR, batch.behaviour_logprobs)
        ratio_NxR = importance_ratio(logprobs_NxR, batch.behaviour_logprobs, mask_NxR)
        clip = (batch.advantages, c.clip_low, c.clip_high)
        loss_NxR = -losses.clipped_surrogate(ratio_NxR, *clip)
        metrics = {
            "policy/entropy": masked_mean(entropy_NxR, mask_NxR),
            "policy/mismatch_kl": masked_mean(
                losses.kl_k3(batch.behaviour_logprobs, logprobs_NxR), mask_NxR
            ),
            "policy/clip_fraction": masked_mean(
                losses.clipped(ratio_NxR, *clip).astype(jnp.float32), mask_NxR
            ),
        }
        if reference_NxR is not None:
            reference_NxR = jnp.where(mask_NxR, reference_NxR, logprobs_NxR)
            kl_NxR = losses.kl_k3(logprobs_NxR, jax.lax.stop_gradient(reference_NxR))
            loss_NxR += c.kl_coef * kl_NxR
            metrics["policy/reference_kl"] = masked_mean(kl_NxR, mask_NxR)
        if c.entropy_coef:
            loss_NxR -= c.entropy_coef * entropy_NxR
        return aggregate(loss_NxR, mask_NxR), metrics

    return token_loss


def dealt_questions(config: Config, state: TrainState) -> Iterator[np.ndarray]:
    """The questions of each update: every epoch deals them out anew."""
    count, train = config.data.questions_per_step, config.train
    if train.minibatches == train.epochs == 1:
        yield np.arange(count)
        return
    key = purpose_key(state.key, Purpose.MINIBATCHES, state.step)
    for epoch_key in jax.random.split(key, train.epochs):
        order = np.asarray(jax.random.permutation(epoch_key, count))
        yield from np.split(order, train.minibatches)


def mismatch_kl(rollout: Rollout, logprobs_NxR: np.ndarray) -> jax.Array:
    """The mean k3 KL of the sampler's policy and the trainer's, nats per token, from both on its tokens."""
    mask_NxR = length_mask(rollout.lengths, logprobs_NxR.shape[1])
    return masked_mean(losses.kl_k3(rollout.logprobs, logprobs_NxR), mask_NxR).value()


def rollout_metrics(rollout: Rollout, rewards_QxG: np.ndarray) -> dict[str, float]:
    return {
        "reward/mean": float(np.mean(rewards_QxG)),
        "response/length_mean": float(np.mean(rollout.lengths)),
        "response/truncated_fraction": float(np.mean(rollout.truncated)),
    }


def reduce_updates(reports: list[dict[str, Any]]) -> dict[str, float]:
    """Metrics of a step from those of its updates.

    The mismatch between sampler and trainer is that of the first update, before the policy moved;
    skipped updates are counted, all else is averaged over tokens or updates.
    """

    def reduced(name: str) -> float:
        values = [report[name] for report in reports]
        if name == "policy/mismatch_kl":
            values = values[:1]
        if isinstance(values[0], Mean):
            return float(sum(v.total for v in values) / max(sum(v.count for v in values), 1))
        return float(sum(values) if name == "grad/skipped" else np.mean(values))

    return {name: reduced(name) for name in reports[0]}


def _aggregation(name: str, max_response_length: int) -> Aggregate:
    return {
        "token_mean": losses.token_mean,
        "sequence_mean": losses.sequence_mean,
        "constant_length": partial(losses.constant_length_mean, max_length=max_response_length),
    }[name]
