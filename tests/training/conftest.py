"""One small batch for the tests of the train step, and jitted steps shared between them."""

import functools
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from riskpo_jax.algorithms import quantiles
from riskpo_jax.config import from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.models.attention import masked
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training.advantages import tracked_levels
from riskpo_jax.training.state import init_state
from riskpo_jax.training.train_step import make_train_step
from riskpo_jax.types import Prompts

SIZES = {
    "data.questions_per_step": 4,
    "data.max_prompt_length": 5,
    "algorithm.bundle_size": 2,
    "rollout.group_size": 4,
    "rollout.max_response_length": 8,
    "eval.samples": 2,
    "eval.k": (1,),
    "eval.batch_size": 2,
    "model.unroll": 1,  # compiles faster; what is unrolled is held to the definition in test_train_step
}


@functools.cache
def _make_config(items):
    return resolve(from_flat(SIZES | dict(items)))


@pytest.fixture(scope="session")
def make_config():
    """Q = 4 questions in bundles of 2, G = 4, P = 5, R = 8; keywords as `algorithm__alpha=0.3`."""

    def make_config(**changes):
        return _make_config(tuple((k.replace("__", "."), v) for k, v in changes.items()))

    return make_config


@pytest.fixture(scope="session")
def prompts():
    rng = np.random.default_rng(0)
    return Prompts(rng.integers(0, 23, (4, 5)).astype(np.int32), np.array([5, 1, 3, 4], np.int32))


@pytest.fixture(scope="session")
def tiny_sampler(tiny_model):
    return Sampler(Programs(tiny_model, make_mesh(), longest=8, eos_ids=(3, 11)), slots=16)


@pytest.fixture(scope="session")
def experience(tiny_sampler, tiny_params, prompts):
    """prompts, a rollout of `tiny_params` at temperature 1, and binary rewards[Q, G]."""
    rollout = tiny_sampler(tiny_params, jax.random.key(4), prompts, 4, SamplingParams())
    rewards = np.random.default_rng(1).integers(0, 2, (4, 4)).astype(np.float32)
    return SimpleNamespace(prompts=prompts, rollout=rollout, rewards=rewards)


@pytest.fixture(scope="session")
def whole_logits():
    """(model, params, tokens[N, T]) -> logits [N, T, V] of rows from slot 0: no cache, no shared prompt."""

    def whole_logits(model, params, tokens_NxT):
        N, T = tokens_NxT.shape
        positions = jnp.broadcast_to(jnp.arange(T), (N, T))
        mask = jnp.broadcast_to(jnp.tril(jnp.ones((T, T), bool)), (N, T, T))
        hidden, _ = model.apply({"params": params}, tokens_NxT, positions, masked(mask))
        return model.apply({"params": params}, hidden, method="unembed")

    return whole_logits


@pytest.fixture(scope="session")
def perturb():
    """Parameters a little away from the given ones, as after some updates."""

    def perturb(params, scale=0.02, seed=0):
        leaves, structure = jax.tree.flatten(params)
        keys = jax.random.split(jax.random.key(seed), len(leaves))
        moved = [
            x + scale * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(structure, moved)

    return perturb


@pytest.fixture(scope="session")
def make_tiny_state():
    def make_tiny_state(config, params, optimizer, seed=0):
        tracker = quantiles.init(len(tracked_levels(config.algorithm)))
        return init_state(params, optimizer, tracker, seed)

    return make_tiny_state


@pytest.fixture(scope="session")
def jitted_step(tiny_model):
    """The train step of a configuration with nothing frozen, compiled once in the session.

    The state that it is given stays.
    """

    @functools.cache
    def jitted_step(config, optimizer):
        step = make_train_step(config, tiny_model, optimizer, make_mesh())
        return lambda state, *batch: step(jax.tree.map(jnp.copy, state), {}, *batch)

    return jitted_step


@pytest.fixture(scope="session")
def descent():
    """Plain gradient descent: parameters before minus after are the gradient."""
    return optax.sgd(1.0)


@pytest.fixture(scope="session")
def assert_trees_close():
    """Equal up to `tolerance` times the norm of the whole."""

    def assert_trees_close(found, expected, tolerance=1e-5):
        scale = float(optax.tree.norm(expected))
        assert scale > 0 and jax.tree.structure(found) == jax.tree.structure(expected)
        for path, (a, b) in zip(
            jax.tree_util.tree_leaves_with_path(expected),
            zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True),
            strict=True,
        ):
            np.testing.assert_allclose(
                a, b, rtol=0, atol=tolerance * scale, err_msg=jax.tree_util.keystr(path[0])
            )

    return assert_trees_close
