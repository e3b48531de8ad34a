"""All that a run must remember between two steps."""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax

from riskpo_jax.types import TrackerState


@flax.struct.dataclass
class TrainState:
    """One pytree, one checkpoint.

    params: those that train: the model's or, beside a frozen base, the adapters'. opt_state: optax's.
    step: int32, rollout batches done. position: int32, problems drawn so far (the data iterator's whole
    state). tracker: the bundle quantiles. key: the raw data of the root PRNG key, never split, only folded.
    """

    params: Any
    opt_state: optax.OptState
    step: jax.Array
    position: jax.Array
    tracker: TrackerState
    key: jax.Array


class Purpose(IntEnum):
    """What a key is for. Folding (purpose, step) into the root lets any step be replayed alone."""

    INIT = 0
    ROLLOUT = 1
    BUNDLES = 2
    MINIBATCHES = 3
    EVALUATION = 4
    ROUNDING = 5


def purpose_key(key_data: jax.Array, purpose: Purpose, step: jax.Array | int) -> jax.Array:
    root = jax.random.wrap_key_data(key_data)
    return jax.random.fold_in(jax.random.fold_in(root, purpose), step)


def init_state(
    params: Any, optimizer: optax.GradientTransformation, tracker: TrackerState, seed: int
) -> TrainState:
    return TrainState(
        params=params,
        opt_state=optimizer.init(params),
        step=jnp.int32(0),
        position=jnp.int32(0),
        tracker=tracker,
        key=jax.random.key_data(jax.random.key(seed)),
    )
