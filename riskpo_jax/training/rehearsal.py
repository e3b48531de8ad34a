"""The largest shapes first: what does not fit into memory shows before the first step, in one line."""

from __future__ import annotations

from typing import Any

import numpy as np
from jax.sharding import Mesh

from riskpo_jax.config import Config
from riskpo_jax.device_memory import ROLLOUT_REMEDY, UPDATE_REMEDY, explained
from riskpo_jax.models import lora
from riskpo_jax.training import setup
from riskpo_jax.training.run import Run
from riskpo_jax.training.state import Purpose, TrainState, purpose_key
from riskpo_jax.training.update import Update
from riskpo_jax.types import Prompts


def is_due(config: Config, mesh: Mesh) -> bool:
    """By default not on a CPU: its memory is the machine's, and what compiles there may never be needed."""
    wanted = config.compile.worst_case_first
    return wanted == "yes" or (wanted == "auto" and mesh.devices.flat[0].platform != "cpu")


def rehearse(run: Run, update: Update, frozen: Any, state: TrainState, reference: Any) -> None:
    """Decodes behind full caches, and takes the gradient of the largest micro-batch.

    Raises:
      UserError: what does not fit into the devices' memory, and the flags to lower.
    """
    c, G = run.config, run.config.rollout.group_size
    P, R, Q = c.data.max_prompt_length, c.rollout.max_response_length, c.data.questions_per_step
    prompts = Prompts(np.zeros((Q, P), np.int32), np.full(Q, P, np.int32))
    decoding = (
        f"decoding {min(run.sampler.slots, Q * G)} responses of {P} + {R} tokens at the same time"
    )
    with explained(decoding, ROLLOUT_REMEDY):
        policy = lora.join(frozen, state.params)
        run.sampler.rehearse(policy, prompts, G, setup.rollout_sampling(c))
    training = f"the gradient of {update.budget.tokens} response tokens a data shard"
    with explained(training, UPDATE_REMEDY):
        key = purpose_key(state.key, Purpose.ROUNDING, state.step)
        update.rehearse(state.params, state.opt_state, frozen, reference, key, P, R)
    run.console.print("the largest shapes fit into memory", highlight=False)
