"""The step of post-training by rewards, seen from the host: sample, grade, update."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from riskpo_jax.data.problem import Problem
from riskpo_jax.models import lora
from riskpo_jax.rewards.grading import (
    PendingOutcomes,
    outcome_fractions,
    refuse_all_errors,
    submit_groups,
)
from riskpo_jax.rewards.outcome import Outcome
from riskpo_jax.rollout.sampler import decode_responses
from riskpo_jax.rollout.session import Finished, in_order
from riskpo_jax.training import setup
from riskpo_jax.training.run import Record, Run, StepFn
from riskpo_jax.training.state import Purpose, TrainState, purpose_key
from riskpo_jax.training.train_step import train_step_with
from riskpo_jax.training.update import Update
from riskpo_jax.types import Prompts, Rollout


@dataclass(frozen=True)
class Experience:
    """One rollout batch on the host."""

    prompts: Prompts
    rollout: Rollout
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


def post_training_step(run: Run, update: Update, frozen: Any, reference: Any) -> StepFn:
    """The train step wrapped in sampling and grading; the arguments are `train_step_with`'s."""
    config = run.config
    train_step = train_step_with(update, config)

    def step(state: TrainState):
        began = time.perf_counter()
        experience = collect(run, frozen, state)
        collected = time.perf_counter()
        state, metrics = train_step(
            state,
            frozen,
            experience.prompts,
            experience.rollout,
            experience.rewards_QxG(),
            reference,
        )
        seconds = time.perf_counter() - began
        metrics |= outcome_fractions(experience.outcomes) | experience.times
        metrics["time/update_s"] = time.perf_counter() - collected
        metrics["time/step_s"] = seconds
        metrics["throughput/generated_tokens_per_s"] = (
            int(experience.rollout.lengths.sum()) / seconds
        )
        return state, metrics, experience.records(config.report.samples)

    return step


def collect(run: Run, frozen: Any, state: TrainState) -> Experience:
    """Draws the next problems, samples G responses to each and has them graded.

    A question's responses are graded while others are still being sampled; `time/reward_s` is what is
    left to wait for after the last.
    """
    config = run.config
    problems = run.loader.batch(int(state.position))
    began = time.perf_counter()
    prompts = run.policy.encode(problems)
    parts: list[tuple[Finished, list[str], PendingOutcomes]] = []
    for part in run.sampler.stream(
        lora.join(frozen, state.params),
        purpose_key(state.key, Purpose.ROLLOUT, state.step),
        prompts,
        config.rollout.group_size,
        setup.rollout_sampling(config),
    ):
        texts = decode_responses(run.policy.tokenizer, part.rollout.tokens, part.rollout.lengths)
        verdicts = submit_groups(run.grader, [problems[q] for q in part.questions], texts)
        parts.append((part, texts, verdicts))
    sampled = time.perf_counter()
    outcomes, responses = by_question(parts, config.rollout.group_size)
    refuse_all_errors(outcomes)
    times = {
        "time/rollout_s": sampled - began,
        "time/reward_s": time.perf_counter() - sampled,
    }
    rollout = in_order([part for part, _, _ in parts])
    return Experience(prompts, rollout, problems, responses, outcomes, times)


def by_question(
    parts: Sequence[tuple[Finished, list[str], PendingOutcomes]], group_size: int
) -> tuple[list[list[Outcome]], list[str]]:
    """Outcomes [Q][G], waited for, and texts [Q * G], in the order of the questions."""
    groups = {}
    for part, texts, verdicts in parts:
        for i, (question, outcomes) in enumerate(
            zip(part.questions, verdicts.result(), strict=True)
        ):
            groups[question] = outcomes, texts[i * group_size : (i + 1) * group_size]
    ordered = [groups[question] for question in sorted(groups)]
    return [outcomes for outcomes, _ in ordered], [text for _, texts in ordered for text in texts]
