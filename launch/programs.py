"""The programs of a run with the shapes and shardings of all that they take, and no array."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from riskpo_jax.rollout.generate import generate

from riskpo_jax.config import Config
from riskpo_jax.errors import UserError
from riskpo_jax.models import lora
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.partitioning import placed_shapes
from riskpo_jax.sharding import MESH_AXES, batch_sharding, replicated
from riskpo_jax.training import setup
from riskpo_jax.training.train_step import make_train_step
from riskpo_jax.types import Prompts, Rollout


class Program(NamedTuple):
    """A jitted function and abstract arguments for it.

    calls: how often a step calls it. beside: what lies on the chips meanwhile and is none of its arguments.
    """

    function: Callable
    arguments: tuple
    calls: int = 1
    beside: Any = ()


def programs(config: Config, model: Decoder, mesh: Mesh) -> dict[str, Program]:
    """What a step of `config` runs on `mesh`, by name."""
    params = placed_shapes(model, mesh)
    frozen, trained = lora.split(params) if model.lora else ({}, params)
    optimizer = setup.make_optimizer(config)
    state = setup.state_shapes(config, trained, optimizer, mesh)
    reference = trained if config.algorithm.kl_coef else None
    questions = config.data.questions_per_step
    train_step = jax.jit(make_train_step(config, model, optimizer), donate_argnums=0)
    rewards = jax.ShapeDtypeStruct(
        (questions, config.rollout.group_size), jnp.float32, sharding=batch_sharding(mesh)
    )
    experience = (_prompts(config, questions, mesh), _rollout(config, mesh), rewards)
    key = jax.eval_shape(lambda: jax.random.key(0))
    sample = jax.jit(
        partial(
            generate,
            model,
            group_size=config.rollout.group_size,
            max_response_length=config.rollout.max_response_length,
            sampling=setup.rollout_sampling(config),
            eos_ids=model.config.eos_token_ids or (0,),
        ),
        out_shardings=batch_sharding(mesh),
    )
    at_once = config.rollout.questions_at_once or questions
    return {
        "train step": Program(train_step, (state, frozen, *experience, reference)),
        "rollout": Program(
            sample,
            (
                params,
                jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=replicated(mesh)),
                _prompts(config, at_once, mesh),
            ),
            calls=questions // at_once,
            beside=(state.opt_state, reference),
        ),
    }


def plan_mesh(config: Config, shape: DecoderConfig, devices: Any) -> Mesh:
    """The mesh of `config` over `devices`.

    Raises:
      UserError: sizes that do not divide the devices, the model's heads or a batch.
    """
    batches = ["data.questions_per_step"]
    batches += ["rollout.questions_at_once"] * bool(config.rollout.questions_at_once)
    batches += ["train.micro_batch_size"] * bool(config.train.micro_batch_size)
    mesh = setup.load_mesh(config, batches, devices)
    tensor = mesh.shape[MESH_AXES[2]]
    if shape.num_heads % tensor:
        possible = [n for n in range(1, shape.num_heads + 1) if shape.num_heads % n == 0]
        raise UserError(
            f"--mesh: tensor={tensor} does not divide the model's {shape.num_heads} heads; "
            f"{', '.join(map(str, possible))} do"
        )
    return mesh


def bytes_a_chip(tree: Any) -> int:
    """Bytes that abstract, placed arrays take on each device."""
    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


def _prompts(config: Config, questions: int, mesh: Mesh) -> Prompts:
    row = partial(jax.ShapeDtypeStruct, sharding=batch_sharding(mesh))
    return Prompts(
        tokens=row((questions, config.data.max_prompt_length), jnp.int32),
        lengths=row((questions,), jnp.int32),
    )


def _rollout(config: Config, mesh: Mesh) -> Rollout:
    row = partial(jax.ShapeDtypeStruct, sharding=batch_sharding(mesh))
    N, R = config.sequences_per_step, config.rollout.max_response_length
    return Rollout(
        tokens=row((N, R), jnp.int32),
        lengths=row((N,), jnp.int32),
        logprobs=row((N, R), jnp.float32),
        truncated=row((N,), bool),
    )
