"""One RiskPO step after the rollout: rewards -> advantages -> clipped updates, as one jitted function."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

from riskpo_jax.algorithms import losses
from riskpo_jax.config import Config
from riskpo_jax.masked import Mean, length_mask, masked_mean
from riskpo_jax.models import lora
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.training.accumulate import Metrics, accumulate_gradients, split_rows
from riskpo_jax.training.advantages import make_advantage_fn
from riskpo_jax.training.logprobs import response_logprobs
from riskpo_jax.training.optimizer import apply_finite
from riskpo_jax.training.state import Purpose, TrainState, purpose_key
from riskpo_jax.types import Prompts, Rollout, TrainBatch

Aggregate = Callable[[jax.Array, jax.Array], Mean]
TrainStep = Callable[
    [TrainState, Any, Prompts, Rollout, jax.Array, Any], tuple[TrainState, dict[str, jax.Array]]
]


def make_train_step(
    config: Config, model: Decoder, optimizer: optax.GradientTransformation
) -> TrainStep:
    """A jittable (state, frozen, prompts, rollout, rewards_QxG, reference) -> (state, metrics).

    `frozen` is what the policy has besides `state.params`, {} where all of it trains; `reference` is
    the `params` of the initial policy where the KL penalty is on, else None.
    """
    advantage_fn = make_advantage_fn(config.algorithm)
    loss_fn = make_loss_fn(config, model)
    train = config.train

    def train_step(
        state: TrainState,
        frozen: Any,
        prompts: Prompts,
        rollout: Rollout,
        rewards_QxG: jax.Array,
        reference: Any,
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        bundle_key = purpose_key(state.key, Purpose.BUNDLES, state.step)
        advantages_QxG, tracker, metrics = advantage_fn(bundle_key, rewards_QxG, state.tracker)
        batch = to_train_batch(prompts, rollout, advantages_QxG)
        shuffle_key = purpose_key(state.key, Purpose.MINIBATCHES, state.step)
        rounding_key = purpose_key(state.key, Purpose.ROUNDING, state.step)
        reference_params = None if reference is None else lora.join(frozen, reference)

        def loss_of(params: Any, micro_batch: TrainBatch) -> tuple[Mean, Metrics]:
            return loss_fn(lora.join(frozen, params), micro_batch, reference_params)

        def one_update(carry, key_and_minibatch: tuple[jax.Array, TrainBatch]):
            params, opt_state = carry
            key, minibatch = key_and_minibatch
            gradients, _, loss_metrics = accumulate_gradients(
                loss_of, params, split_rows(minibatch, config.micro_batches)
            )
            params, opt_state, update_metrics = apply_finite(
                optimizer, gradients, opt_state, params, key
            )
            return (params, opt_state), (loss_metrics, update_metrics)

        minibatches = shuffled_minibatches(shuffle_key, batch, train.minibatches, train.epochs)
        keys = jax.random.split(rounding_key, train.minibatches * train.epochs)
        (params, opt_state), (loss_metrics, update_metrics) = jax.lax.scan(
            one_update, (state.params, state.opt_state), (keys, minibatches)
        )
        state = state.replace(
            params=params,
            opt_state=opt_state,
            step=state.step + 1,
            position=state.position + rewards_QxG.shape[0],
            tracker=tracker,
        )
        metrics |= rollout_metrics(rollout, rewards_QxG)
        metrics |= reduce_updates(loss_metrics, update_metrics)
        return state, metrics

    return train_step


def to_train_batch(prompts: Prompts, rollout: Rollout, advantages_QxG: jax.Array) -> TrainBatch:
    """The N = Q * G sequences of a rollout batch, each with its prompt and advantage."""
    group_size = advantages_QxG.shape[1]
    return TrainBatch(
        prompt_tokens=jnp.repeat(prompts.tokens, group_size, axis=0),
        prompt_lengths=jnp.repeat(prompts.lengths, group_size),
        response_tokens=rollout.tokens,
        response_lengths=rollout.lengths,
        behaviour_logprobs=rollout.logprobs,
        advantages=advantages_QxG.reshape(-1),
    )


def make_loss_fn(
    config: Config, model: Decoder
) -> Callable[[Any, TrainBatch, Any], tuple[Mean, Metrics]]:
    """(params, TrainBatch, reference_params) -> the unreduced clipped loss and its metrics.

    loss = -min(r A, clip(r, 1 - eps_low, 1 + eps_high) A) + kl_coef KL - entropy_coef H, per token.
    """
    c = config.algorithm
    aggregate = _aggregation(c.loss_aggregation, config.rollout.max_response_length)

    def loss_fn(params: Any, batch: TrainBatch, reference_params: Any) -> tuple[Mean, Metrics]:
        score = partial(
            response_logprobs,
            model,
            prompt_tokens_NxP=batch.prompt_tokens,
            prompt_lengths_N=batch.prompt_lengths,
            response_tokens_NxR=batch.response_tokens,
            response_lengths_N=batch.response_lengths,
            temperature=config.rollout.temperature,
        )
        mask_NxR = length_mask(batch.response_lengths, batch.response_tokens.shape[1])
        logprobs_NxR, entropy_NxR = score(params)
        # Padding is scored as garbage; at the behaviour's own value its ratio is 1 and stays finite.
        logprobs_NxR = jnp.where(mask_NxR, logprobs_NxR, batch.behaviour_logprobs)
        ratio_NxR = losses.importance_ratio(logprobs_NxR, batch.behaviour_logprobs)
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
        if c.kl_coef:
            reference_NxR, _ = score(reference_params)
            reference_NxR = jnp.where(mask_NxR, reference_NxR, logprobs_NxR)
            kl_NxR = losses.kl_k3(logprobs_NxR, jax.lax.stop_gradient(reference_NxR))
            loss_NxR += c.kl_coef * kl_NxR
            metrics["policy/reference_kl"] = masked_mean(kl_NxR, mask_NxR)
        if c.entropy_coef:
            loss_NxR -= c.entropy_coef * entropy_NxR
        loss = aggregate(loss_NxR, mask_NxR)
        return loss, metrics | {"loss/total": loss}

    return loss_fn


def shuffled_minibatches(key: jax.Array, batch: TrainBatch, minibatches: int, epochs: int) -> Any:
    """[epochs * minibatches, rows, ...]: each epoch deals the sequences out anew."""

    def one_epoch(epoch_key: jax.Array) -> Any:
        order_N = jax.random.permutation(epoch_key, batch.advantages.shape[0])
        return split_rows(jax.tree.map(lambda x: x[order_N], batch), minibatches)

    if minibatches == epochs == 1:
        return split_rows(batch, 1)
    per_epoch = jax.vmap(one_epoch)(jax.random.split(key, epochs))
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), per_epoch)


def rollout_metrics(rollout: Rollout, rewards_QxG: jax.Array) -> dict[str, jax.Array]:
    return {
        "reward/mean": rewards_QxG.mean(),
        "response/length_mean": rollout.lengths.astype(jnp.float32).mean(),
        "response/truncated_fraction": rollout.truncated.astype(jnp.float32).mean(),
    }


def reduce_updates(
    loss_metrics: Metrics, update_metrics: dict[str, jax.Array]
) -> dict[str, jax.Array]:
    """Metrics of a step from those of its updates, whose leading axis is the update.

    The mismatch between sampler and trainer is that of the first update, before the policy moved;
    skipped updates are counted, all else is averaged over tokens or updates.
    """
    reduced = {
        name: Mean(metric.total.sum(), metric.count.sum()).value()
        for name, metric in loss_metrics.items()
    }
    first = jax.tree.map(lambda x: x[0], loss_metrics["policy/mismatch_kl"])
    return reduced | {
        "policy/mismatch_kl": first.value(),
        "grad/norm": update_metrics["grad/norm"].mean(),
        "grad/skipped": update_metrics["grad/skipped"].sum(),
    }


def _aggregation(name: str, max_response_length: int) -> Aggregate:
    return {
        "token_mean": losses.token_mean,
        "sequence_mean": losses.sequence_mean,
        "constant_length": partial(losses.constant_length_mean, max_length=max_response_length),
    }[name]
