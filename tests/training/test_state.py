"""Keys are replayable and never shared between purposes or steps."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from riskpo_jax.algorithms import quantiles
from riskpo_jax.training.state import Purpose, init_state, purpose_key


def test_every_purpose_and_step_has_its_own_key():
    drawn = [
        tuple(np.asarray(jax.random.key_data(purpose_key(root, purpose, step))).tolist())
        for seed, purpose, step in itertools.product((0, 1), Purpose, (0, 1, 2, 1000))
        for root in [jax.random.key_data(jax.random.key(seed))]
    ]
    assert len(set(drawn)) == len(drawn)


def test_a_key_depends_on_the_root_alone_inside_and_outside_of_jit():
    root = jax.random.key_data(jax.random.key(3))
    jitted = jax.jit(lambda data, step: purpose_key(data, Purpose.ROLLOUT, step))
    again = purpose_key(root, Purpose.ROLLOUT, 5)
    assert (jax.random.key_data(jitted(root, jnp.int32(5))) == jax.random.key_data(again)).all()


def test_the_first_state_has_done_nothing():
    state = init_state({"w": jnp.ones(2)}, optax.sgd(0.1), quantiles.init(3), seed=4)
    assert int(state.step) == int(state.position) == int(state.tracker.step) == 0
    assert (jax.random.wrap_key_data(state.key) == jax.random.key(4)).all()
