"""Gradients computed in 16 bits: close to float32's, because nothing divides before the backward pass."""

import functools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.masked import Mean
from riskpo_jax.training.accumulate import accumulate_gradients, split_rows
from riskpo_jax.training.train_step import make_loss_fn, to_train_batch

PAPER_TOKENS = 5120 * 3072  # of a rollout batch of the hard-math recipe, at most


@pytest.fixture(scope="module")
def gradient(make_config, tiny_model, tiny_params, experience):
    """gradient(dtype, divisor) of the clipped loss, flat.

    The loss is divided before the backward pass and its gradient multiplied afterwards.
    """
    loss_fn = partial(make_loss_fn, make_config())
    advantages = np.random.default_rng(0).standard_normal((4, 4)).astype(np.float32)
    batch = to_train_batch(experience.prompts, experience.rollout, advantages)

    @functools.cache
    def gradient(dtype, divisor=1):
        of_policy = loss_fn(tiny_model.clone(dtype=jnp.dtype(dtype)))

        def divided(params, rows):
            loss, metrics = of_policy(params, rows, None)
            return Mean(loss.total / divisor, loss.count), metrics

        found, _, _ = jax.jit(partial(accumulate_gradients, divided))(
            tiny_params, split_rows(batch, 2)
        )
        leaves = [divisor * np.ravel(np.float64(leaf)) for leaf in jax.tree.leaves(found)]
        return np.concatenate(leaves)

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
