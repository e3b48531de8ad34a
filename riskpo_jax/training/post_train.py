"""The step of post-training by rewards, seen from the host: sample, grade, update."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
import optax

from riskpo_jax.data.problem import Problem
from riskpo_jax.models import lora
from riskpo_jax.rewards.grading import outcome_fractions, refuse_all_errors, submit_groups
from riskpo_jax.rewards.outcome import Outcome
from riskpo_jax.rollout.sampler import decode_responses, join_turns, sample_in_turns
from riskpo_jax.sharding import batch_sharding
from riskpo_jax.training import setup
from riskpo_jax.training.run import Record, Run, StepFn
from riskpo_jax.training.state import Purpose, TrainState, purpose_key
from riskpo_jax.training.train_step import make_train_step
from riskpo_jax.types import Prompts, Rollout


@dataclass(frozen=True)
class Experience:
    """One rollout batch, on the device for training and on the host for graders and people."""

    prompts: Prompts
    rollout: Rollout
    generated_tokens: int
    problems: list[Problem]
    responses: list[str]
    outcomes: list[list[Outcome]]
    times: dict[str, float]

    def rewards_QxG(self) -> np.ndarray:
        return np.array([[o.score for o in group] for group in self.outcomes], np.float32)

    def records(self, count: int) -> list[Record]:
        """The first responses with their verdicts."""
        flat = [
            (problem, outcome)
            for problem, group in zip(self.problems, self.outcomes, strict=True)
            for outcome in group
        ]
        return [
            {
                "id": problem.id,
                "level": problem.level,
                "problem": problem.text,
                "answer": problem.answer,
                "response": response,
                "outcome": str(outcome.kind),
                "reward": outcome.score,
            }
            for response, (problem, outcome) in zip(self.responses[:count], flat, strict=False)
        ]


def post_training_step(
    run: Run, optimizer: optax.GradientTransformation, frozen: Any, reference: Any
) -> StepFn:
    """The jitted train step wrapped in sampling and grading; the arguments are `make_train_step`'s."""
    config = run.config
    train_step = jax.jit(make_train_step(config, run.policy.model, optimizer), donate_argnums=0)

    def step(state: TrainState):
        began = time.perf_counter()
        experience = collect(run, frozen, state)
        collected = time.perf_counter()
        rewards_QxG = jax.device_put(experience.rewards_QxG(), batch_sharding(run.mesh))
        state, metrics = train_step(
            state, frozen, experience.prompts, experience.rollout, rewards_QxG, reference
        )
        metrics = {name: float(value) for name, value in jax.device_get(metrics).items()}
        seconds = time.perf_counter() - began
        metrics |= outcome_fractions(experience.outcomes) | experience.times
        metrics["time/update_s"] = time.perf_counter() - collected
        metrics["time/step_s"] = seconds
        metrics["throughput/generated_tokens_per_s"] = experience.generated_tokens / seconds
        return state, metrics, experience.records(config.report.samples)

    return step


def collect(run: Run, frozen: Any, state: TrainState) -> Experience:
    """Draws the next problems, samples G responses to each and has them graded.

    The responses of one turn of the sampler are graded while the next turn's are sampled;
    `time/reward_s` is what is left to wait for after the last.
    """
    config = run.config
    problems = run.loader.batch(int(state.position))
    began = time.perf_counter()
    prompts = run.sampler.place(run.policy.encode(problems))
    key = purpose_key(state.key, Purpose.ROLLOUT, state.step)
    turns, lengths, responses, pending = [], [], [], []
    for rows, rollout in sample_in_turns(
        run.sampler,
        lora.join(frozen, state.params),
        key,
        prompts,
        config.rollout.group_size,
        setup.rollout_sampling(config),
        config.rollout.questions_at_once,
    ):
        tokens_NxR, lengths_N = jax.device_get((rollout.tokens, rollout.lengths))
        sampled = time.perf_counter()
        texts = decode_responses(run.policy.tokenizer, tokens_NxR, lengths_N)
        pending.append(submit_groups(run.grader, problems[rows], texts))
        turns.append(rollout)
        lengths.append(lengths_N)
        responses += texts
    outcomes = [group for part in pending for group in part.result()]
    refuse_all_errors(outcomes)
    times = {
        "time/rollout_s": sampled - began,
        "time/reward_s": time.perf_counter() - sampled,
    }
    generated = int(sum(lengths_N.sum() for lengths_N in lengths))
    whole = join_turns(run.sampler, turns)
    return Experience(prompts, whole, generated, problems, responses, outcomes, times)
