"""Gradients computed in 16 bits: close to float32's, because nothing divides before the backward pass."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from riskpo_jax.masked import Mean
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training.micro_batches import Sequences
from riskpo_jax.training.setup import make_update
from riskpo_jax.training.train_step import make_token_loss

PAPER_TOKENS = 5120 * 3072  # of a rollout batch of the hard-math recipe, at most
KEEP = optax.GradientTransformation(  # makes the gradient its state
    lambda params: jax.tree.map(jnp.zeros_like, params),
    lambda gradients, state, params=None: (jax.tree.map(jnp.zeros_like, gradients), gradients),
)


@pytest.fixture(scope="module")
def gradient(make_config, tiny_model, tiny_params, experience):
    """gradient(dtype, divisor) of the clipped loss, flat.

    The loss is divided before the backward pass and its gradient multiplied afterwards.
    """
    config = make_config(train__tokens_per_micro_batch=64)
    advantages = np.random.default_rng(0).standard_normal(16).astype(np.float32)
    sequences = Sequences(experience.prompts, experience.rollout, advantages)
    token_loss = make_token_loss(config)

    @functools.cache
    def gradient(dtype, divisor=1):
        def divided(*args):
            loss, metrics = token_loss(*args)
            return Mean(loss.total / divisor, loss.count), metrics

        model = tiny_model.clone(dtype=jnp.dtype(dtype))
        update = make_update(config, model, KEEP, make_mesh(), divided, temperature=1.0)
        params = jax.tree.map(jnp.copy, tiny_params)
        _, found, _ = update(
            params, KEEP.init(params), {}, None, sequences, range(4), jax.random.key(0)
        )
        return np.concatenate([divisor * np.ravel(np.float64(x)) for x in jax.tree.leaves(found)])

    return gradient


def error_and_loss(found, exact):
    """The relative error in norm, and the fraction of non-zero entries that became zero."""
    error = np.linalg.norm(found - exact) / np.linalg.norm(exact)
    return error, (found[exact != 0] == 0).mean()


@pytest.mark.parametrize(("dtype", "tolerance"), [("float16", 0.02), ("bfloat16", 0.1)])
def test_gradients_are_those_of_float32_to_the_precision_of_the_type(gradient, dtype, tolerance):
    error, flushed = error_and_loss(gradient(dtype), gradient("float32"))
    assert 1e-4 < error < tolerance
    assert flushed < 0.01


def test_float16_needs_the_division_after_the_backward_pass(gradient):
    """Divided by the paper's token count before it, most gradients are below what float16 can hold."""
    error, flushed = error_and_loss(gradient("float16", PAPER_TOKENS), gradient("float32"))
    assert error > 0.5 and flushed > 0.5
