"""The step of the supervised warm start, seen from the host: problems with their solutions as batches."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import optax

from riskpo_jax.data.problem import Problem, Source
from riskpo_jax.errors import UserError
from riskpo_jax.training.micro_batches import Sequences
from riskpo_jax.training.run import Run, StepFn
from riskpo_jax.training.setup import Policy
from riskpo_jax.training.state import TrainState
from riskpo_jax.training.supervised import make_supervised_step
from riskpo_jax.types import Rollout


def warm_start_step(run: Run, optimizer: optax.GradientTransformation, frozen: Any) -> StepFn:
    """The supervised step on the next problems' solutions; `frozen` as in `make_train_step`."""
    train_step = make_supervised_step(run.config, run.policy.model, optimizer, run.mesh)

    def step(state: TrainState):
        began = time.perf_counter()
        problems = run.loader.batch(int(state.position))
        state, metrics = train_step(state, frozen, solutions_batch(run.policy, problems))
        return state, metrics | {"time/step_s": time.perf_counter() - began}, []

    return step


def check_solutions(policy: Policy, source: Source, count: int = 1000) -> None:
    """Encodes the first problems, so that limits that are too low show before the run starts.

    Raises:
      UserError: as `solutions_batch`.
    """
    solutions_batch(policy, [source[i] for i in range(min(count, len(source)))])


def solutions_batch(policy: Policy, problems: list[Problem]) -> Sequences:
    """Prompts and tokenised solutions, each ended by the tokenizer's end token, as host arrays.

    Raises:
      UserError: a problem without `metadata["solution"]`, or one that exceeds a length limit.
    """
    prompts = policy.encode(problems)
    width = policy.config.rollout.max_response_length
    tokens_NxR = np.zeros((len(problems), width), np.int32)
    lengths_N = np.zeros(len(problems), np.int32)
    for n, problem in enumerate(problems):
        if "solution" not in problem.metadata:
            raise UserError(
                f"problem {problem.id} has no solution to learn from: --train.stage=supervised is for "
                "countdown, and for tasks of reasoning_gym whose scorer accepts their answer as a text"
            )
        ids = policy.tokenizer(problem.metadata["solution"], add_special_tokens=False)["input_ids"]
        ids = [*ids, policy.tokenizer.eos_token_id]
        if len(ids) > width:
            raise UserError(
                f"the solution of problem {problem.id} has {len(ids)} tokens: raise "
                f"--rollout.max_response_length={width}"
            )
        tokens_NxR[n, : len(ids)] = ids
        lengths_N[n] = len(ids)
    unused = np.zeros(len(problems), np.float32)
    solutions = Rollout(tokens_NxR, lengths_N, np.zeros(tokens_NxR.shape, np.float32), unused > 0)
    return Sequences(prompts, solutions, advantages=unused)
