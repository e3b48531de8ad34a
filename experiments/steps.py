"""Steps of a workload, timed: what a run samples and trains with, but no data and no grader."""

from __future__ import annotations

import dataclasses
import time

import jax
import numpy as np

from experiments.workloads import Workload
from riskpo_jax.config import Config
from riskpo_jax.models.partitioning import init_params
from riskpo_jax.training import setup
from riskpo_jax.training.state import Purpose, TrainState, purpose_key
from riskpo_jax.training.train_step import make_train_step
from riskpo_jax.types import Prompts, Rollout


@dataclasses.dataclass(frozen=True)
class StepTimes:
    """Seconds of one step; `lengths_QxG` is what was sampled."""

    rollout_s: float
    update_s: float
    lengths_QxG: np.ndarray

    @property
    def step_s(self) -> float:
        return self.rollout_s + self.update_s


class Stepper:
    """A policy in training on one workload: call `step` again and again."""

    def __init__(self, config: Config, work: Workload):
        self._config, self._work = config, work
        self._mesh = setup.load_mesh(config, work.model)
        self.model = setup.make_model(config, work.model)
        optimizer = setup.make_optimizer(config)
        params = init_params(self.model, jax.random.key(config.seed), self._mesh)
        self.state: TrainState = setup.make_state(config, params, optimizer, self._mesh)
        # No token is outside of the vocabulary: responses go on until they are as long as they may be.
        no_end = (work.model.vocab_size,)
        self._sampler = setup.make_sampler(config, self.model, no_end, self._mesh)
        self._train_step = make_train_step(config, self.model, optimizer, self._mesh)

    def step(self) -> StepTimes:
        """A rollout, until its tokens are on the host, and an update, until it is done."""
        began = time.perf_counter()
        prompts, rollout = self.sample(self._work.lengths_N())
        sampled = time.perf_counter()
        rewards_QxG = self._work.rewards_QxG()
        self.state, _ = self._train_step(self.state, {}, prompts, rollout, rewards_QxG, None)
        jax.block_until_ready(self.state)
        updated = time.perf_counter()
        lengths_QxG = rollout.lengths.reshape(rewards_QxG.shape)
        return StepTimes(sampled - began, updated - sampled, lengths_QxG)

    def sample(self, lengths_N: np.ndarray) -> tuple[Prompts, Rollout]:
        """The workload's prompts, and responses of these lengths to them."""
        work = self._work
        lengths_Q = np.full(work.questions, work.prompt_length, np.int32)
        prompts = Prompts(work.prompts_QxP(), lengths_Q)
        key = purpose_key(self.state.key, Purpose.ROLLOUT, self.state.step)
        sampling = setup.rollout_sampling(self._config)
        rollout = self._sampler(
            self.state.params, key, prompts, work.group_size, sampling, limits_N=lengths_N
        )
        return prompts, rollout

    def prefill_seconds(self, repeats: int) -> list[float]:
        """Seconds of rollouts of one token."""
        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            self.sample(np.ones_like(self._work.lengths_N()))
            seconds.append(time.perf_counter() - began)
        return seconds[1:]
