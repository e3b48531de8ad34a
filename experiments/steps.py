"""Steps of a workload, timed: what a run samples and trains with, but no data and no grader."""

from __future__ import annotations

import dataclasses
import statistics
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
        prompts, rollout = self.sample(self._work.lengths_QxG())
        sampled = time.perf_counter()
        rewards_QxG = self._work.rewards_QxG()
        self.state, _ = self._train_step(self.state, {}, prompts, rollout, rewards_QxG, None)
        jax.block_until_ready(self.state)
        updated = time.perf_counter()
        lengths_QxG = rollout.lengths.reshape(rewards_QxG.shape)
        return StepTimes(sampled - began, updated - sampled, lengths_QxG)

    def sample(self, lengths_QxG: np.ndarray) -> tuple[Prompts, Rollout]:
        """The first Q of the workload's prompts, and G responses of these lengths to each."""
        work, (Q, G) = self._work, lengths_QxG.shape
        prompts = Prompts(work.prompts_QxP()[:Q], np.full(Q, work.prompt_length, np.int32))
        key = purpose_key(self.state.key, Purpose.ROLLOUT, self.state.step)
        sampling = setup.rollout_sampling(self._config)
        rollout = self._sampler(
            self.state.params, key, prompts, G, sampling, limits_N=lengths_QxG.reshape(-1)
        )
        return prompts, rollout

    def rollout_seconds(self, lengths_QxG: np.ndarray, repeats: int) -> float:
        """The median time of rollouts of these lengths, after one that is not counted."""
        seconds = []
        for _ in range(repeats + 1):
            began = time.perf_counter()
            self.sample(lengths_QxG)
            seconds.append(time.perf_counter() - began)
        return statistics.median(seconds[1:])

    def scheduled_seconds(self, lengths_QxG: np.ndarray, repeats: int) -> float:
        """A rollout whose every token costs what it costs with just those rows that still go on.

        That is the least for rows that all begin at once: no token is drawn for a row that has ended. The
        cost of a token is measured for N, N / 2, ... rows and taken to be linear between them.
        """
        (Q, G), rows, a_token = lengths_QxG.shape, [], []
        shapes = [(Q // 2**k, G) for k in range(Q.bit_length()) if Q % 2**k == 0]
        shapes += [(1, G // 2**k) for k in range(1, G.bit_length()) if G % 2**k == 0]
        tokens = min(33, self._work.response_length)
        ones = [np.ones(shape, np.int32) for shape in shapes]
        for one in ones:
            more = self.rollout_seconds(tokens * one, repeats) - self.rollout_seconds(one, repeats)
            rows.append(one.size)
            a_token.append(more / (tokens - 1))
        alive = (lengths_QxG.reshape(-1)[:, None] > np.arange(lengths_QxG.max())).sum(axis=0)
        costs = np.interp(alive[1:], rows[::-1], a_token[::-1])
        return self.rollout_seconds(ones[0], repeats) + float(costs.sum())
