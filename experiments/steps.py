"""Steps of a workload, timed: what a run samples and trains with, but no data and no grader."""

from __future__ import annotations

import dataclasses
import time

import jax
import numpy as np

from experiments.workloads import Workload
from riskpo_jax.config import Config
from riskpo_jax.models.partitioning import init_params
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.sharding import batch_sharding
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
        self._mesh = setup.load_mesh(config, ["data.questions_per_step"])
        self.model = setup.make_model(config, work.model)
        optimizer = setup.make_optimizer(config)
        params = init_params(self.model, jax.random.key(config.seed), self._mesh)
        self.state: TrainState = setup.make_state(config, params, optimizer, self._mesh)
        self._sampler = self._make_sampler(work.response_length)
        self._train_step = jax.jit(make_train_step(config, self.model, optimizer), donate_argnums=0)

    def step(self) -> StepTimes:
        """A rollout, until its tokens are on the host, and an update, until it is done."""
        began = time.perf_counter()
        prompts, rollout = self.sample(self._sampler)
        _, lengths_N = jax.device_get((rollout.tokens, rollout.lengths))
        sampled = time.perf_counter()
        rewards_QxG = jax.device_put(self._work.rewards_QxG(), batch_sharding(self._mesh))
        self.state, metrics = self._train_step(self.state, {}, prompts, rollout, rewards_QxG, None)
        jax.block_until_ready((self.state, metrics))
        updated = time.perf_counter()
        lengths_QxG = lengths_N.reshape(rewards_QxG.shape)
        return StepTimes(sampled - began, updated - sampled, lengths_QxG)

    def sample(self, sampler: Sampler) -> tuple[Prompts, Rollout]:
        """The workload's prompts, placed, and responses to them. Lengths are NOT forced yet."""
        work = self._work
        tokens_QxP = work.prompts_QxP()
        prompts = sampler.place(
            Prompts(tokens_QxP, np.full(work.questions, work.prompt_length, np.int32))
        )
        key = purpose_key(self.state.key, Purpose.ROLLOUT, self.state.step)
        sampling = setup.rollout_sampling(self._config)
        return prompts, sampler(self.state.params, key, prompts, work.group_size, sampling)

    def prefill_seconds(self, repeats: int) -> list[float]:
        """Seconds of rollouts that end with the token that the prompt's logits give."""
        sampler, seconds = self._make_sampler(1), []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            jax.device_get(self.sample(sampler)[1].tokens)
            seconds.append(time.perf_counter() - began)
        return seconds[1:]

    def _make_sampler(self, response_length: int) -> Sampler:
        """No token is outside of the vocabulary: responses go on until they are as long as may be."""
        return Sampler(self.model, self._mesh, response_length, (self._work.model.vocab_size,))
