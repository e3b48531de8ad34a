"""The programs of a run with the largest shapes and the shardings of all that they take, and no array."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from riskpo_jax.config import Config
from riskpo_jax.models.attention import KV
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.partitioning import placed_shapes
from riskpo_jax.rollout.cache import Cache
from riskpo_jax.rollout.decode import Slots
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.seating import Seating
from riskpo_jax.rollout.session import PROMPT_TOKENS_AT_ONCE
from riskpo_jax.sharding import batch_sharding, data_shards, replicated
from riskpo_jax.training import setup
from riskpo_jax.training.micro_batches import Budget, largest_chunk
from riskpo_jax.training.train_step import make_policy_update
from riskpo_jax.training.trainable import frozen_and_trained
from riskpo_jax.types import Prompts

UPDATE = ("read prompts", "gradient", "back through prompts", "apply")
ROLLOUT = ("lay out", "read prompts to sample", "decode")


class Program(NamedTuple):
    """A jitted function and abstract arguments for it.

    calls: how often a step calls it. beside: what lies on the chips meanwhile and is none of its arguments.
    options: static arguments by name. turns: of its loop whose length is an argument, if it has one.
    """

    function: Callable
    arguments: tuple
    calls: int = 1
    beside: Any = ()
    options: Mapping[str, Any] = {}
    turns: int = 1


def programs(config: Config, model: Decoder, mesh: Mesh) -> dict[str, Program]:
    """What a step of `config` runs on `mesh`, by name: those of UPDATE and ROLLOUT.

    There is nothing to lay out where decoding reads the parameters as they are.

    Left out is what takes neither memory nor time to speak of: rewards to advantages, rows of the cache
    put in their place, zeros.
    """
    params = placed_shapes(model, mesh)
    frozen, trained = frozen_and_trained(model, params)
    optimizer = setup.make_optimizer(config)
    opt_state = setup.state_shapes(config, trained, optimizer, mesh).opt_state
    reference = trained if config.algorithm.kl_coef else None
    update = _update_programs(config, model, optimizer, mesh, trained, opt_state, frozen, reference)
    return update | _rollout_programs(config, model, mesh, params, (opt_state, reference))


def _update_programs(
    config: Config, model: Decoder, optimizer, mesh: Mesh, params, opt_state, frozen, reference
) -> dict[str, Program]:
    """Those of `training.update.Update`: the results of one are the arguments of the next."""
    update = make_policy_update(config, model, optimizer, mesh)
    prompts, batch = _placed(
        mesh,
        largest_chunk(
            update.budget,
            data_shards(mesh),
            config.data.max_prompt_length,
            config.rollout.max_response_length,
        ),
    )
    states = update.read.eval_shape(params, frozen, prompts)
    compared = None if reference is None else states
    args = params, frozen, states, reference, compared, prompts, batch
    sums, wanted = update.no_sums.eval_shape(*args), update.nothing_wanted.eval_shape(states)
    chunks, batches = _chunks_and_batches(config, update.budget)
    updates = config.train.minibatches * config.train.epochs
    read = (params, frozen, prompts)
    return {
        "read prompts": Program(
            update.read,
            read,
            calls=updates * chunks * (1 if reference is None else 2),
            beside=(sums, opt_state, reference, compared),
        ),
        "gradient": Program(
            update.add, (sums, wanted, *args), calls=updates * batches, beside=opt_state
        ),
        "back through prompts": Program(
            update.read_back,
            (sums, wanted, *read),
            calls=updates * chunks,
            beside=(opt_state, states, reference, compared),
        ),
        "apply": Program(
            update.apply,
            (params, opt_state, sums, _key(mesh)),
            calls=updates,
            beside=(frozen, states, reference, compared),
        ),
    }


def _rollout_programs(
    config: Config, model: Decoder, mesh: Mesh, params: Any, beside: Any
) -> dict[str, Program]:
    """Those of `rollout.programs.Programs`; beside: what is kept of training besides `params`."""
    sampler = setup.make_sampler(config, model, model.config.eos_token_ids or (0,), mesh)
    made, N = sampler.programs, config.sequences_per_step
    Q, G, P = (
        config.data.questions_per_step,
        config.rollout.group_size,
        config.data.max_prompt_length,
    )
    slots = sampler.slots_for(N)
    seating = Seating(Q, G, made.shards, slots)
    cached = made.shards * seating.prompt_slots
    at_once = min(seating.prompt_slots, max(PROMPT_TOKENS_AT_ONCE // P, 1))
    row = partial(jax.ShapeDtypeStruct, sharding=batch_sharding(made.mesh))
    number = jax.ShapeDtypeStruct((), jnp.int32, sharding=replicated(made.mesh))
    prompt_kv = _empty(made, cached, P)
    blocks = -(-made.longest // made.block) - (N <= slots)  # those of `Sampler.rehearse`
    timeline = (_empty(made, slots, made.block),) * blocks
    recent = _empty(made, slots, made.block, made.model.dtype)
    reads = made.shards * at_once
    new_prompts = Prompts(row((reads, P), jnp.int32), row((reads,), jnp.int32))
    found = {}
    if not made.laid_out(params):
        found["lay out"] = Program(made.move, (params,), beside=beside)
        beside = beside, params
    found["read prompts to sample"] = Program(
        made.read,
        (made.params, new_prompts),
        calls=-(-Q // reads),
        beside=(beside, prompt_kv, timeline, recent),
    )
    found["decode"] = Program(
        made.decode,
        (
            made.params,
            Cache(prompt_kv, row((cached,), jnp.int32), timeline),
            recent,
            number,
            _slots(made, slots, cached * G),
            number,
        ),
        calls=-(-N // slots) * -(-made.longest // made.width),
        beside=beside,
        options={"sampling": setup.rollout_sampling(config)},
        turns=made.width,
    )
    return found


def bytes_a_chip(tree: Any) -> int:
    """Bytes that abstract, placed arrays take on each device."""
    return sum(
        int(np.prod(x.sharding.shard_shape(x.shape))) * x.dtype.itemsize
        for x in jax.tree.leaves(tree)
    )


def _chunks_and_batches(config: Config, budget: Budget) -> tuple[int, int]:
    """Chunks and micro-batches of an update in which all prompts and responses are of full length."""
    at_once = budget.questions_of(config.data.max_prompt_length)
    rows = budget.rows_of(config.rollout.max_response_length)
    sizes = [
        min(at_once, budget.questions - first) for first in range(0, budget.questions, at_once)
    ]
    return len(sizes), sum(-(-size * config.rollout.group_size // rows) for size in sizes)


def _placed(mesh: Mesh, rows: Any) -> Any:
    """ShapeDtypeStructs of host arrays as `sharding.place` lays them out."""
    struct = partial(jax.ShapeDtypeStruct, sharding=batch_sharding(mesh))
    return jax.tree.map(lambda x: struct(x.shape, x.dtype), rows)


def _key(mesh: Mesh) -> jax.ShapeDtypeStruct:
    key = jax.eval_shape(lambda: jax.random.key(0))
    return jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=replicated(mesh))


def _empty(made: Programs, *args) -> KV:
    """What `Programs.empty` makes."""
    return jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=made.kv_sharding),
        jax.eval_shape(lambda: made.empty(*args)),
    )


def _slots(made: Programs, slots: int, places: int) -> Slots:
    row = partial(jax.ShapeDtypeStruct, sharding=batch_sharding(made.mesh))
    counts = row((slots,), jnp.int32)
    key_data = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0)))
    return Slots(
        token=counts,
        drawn=counts,
        alive=row((slots,), bool),
        limit=counts,
        key=made.keys.eval_shape(key_data, counts),
        begin=counts,
        prompt=counts,
        member=counts,
        members=row((places,), jnp.int32),
    )
