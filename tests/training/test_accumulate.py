"""Gradients of a mean do not depend on how the rows were cut, though they share prompts read once."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.algorithms import losses
from riskpo_jax.masked import Mean, length_mask
from riskpo_jax.training.accumulate import micro_batch_sums, prompt_gradients

LENGTHS = np.array([9, 1, 1, 2, 1, 9, 1, 4])
QUESTIONS = np.array([0, 0, 1, 2, 1, 2, 0, 1])
AGGREGATES = {
    "token_mean": losses.token_mean,
    "sequence_mean": losses.sequence_mean,
    "constant_length": partial(losses.constant_length_mean, max_length=9),
}
PARAMS = {"w": np.array([0.5, -1.0, 0.2, 0.8], np.float32), "m": np.float32(0.7)}


@pytest.fixture(scope="module")
def batch():
    values = np.random.default_rng(0).standard_normal((8, 9, 4)).astype(np.float32)
    return {"values": values, "lengths": LENGTHS, "questions": QUESTIONS}


@pytest.fixture(scope="module")
def read():
    """Parameters -> the states of three prompts, which the responses add to their own values."""
    prompts = np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)
    return lambda params: jnp.tanh(params["m"] * prompts) * params["w"][None]


def loss_and_metrics(aggregate, params, states, batch):
    mask = length_mask(batch["lengths"], 9)
    values = batch["values"] + states[batch["questions"]][:, None]
    loss = aggregate(jnp.tanh(values @ params["w"]) ** 2, mask)
    return loss, {"twice": Mean(2 * loss.total, loss.count)}


def in_parts(loss_fn, read, params, batches):
    """The gradient of the mean, its loss and metrics, from any number of micro-batches."""
    states = read(params)
    sums, wanted = zip(
        *(micro_batch_sums(loss_fn, params, states, b) for b in batches), strict=True
    )
    sums, wanted = (jax.tree.map(lambda *x: sum(x), *parts) for parts in (sums, wanted))
    of_prompts = prompt_gradients(read, params, wanted)
    count = jnp.maximum(sums.loss.count, 1)
    gradients = jax.tree.map(lambda a, b: (a + b) / count, sums.gradients, of_prompts)
    return gradients, sums.loss, sums.metrics


def cut(batch, parts):
    return [{name: x[part::parts] for name, x in batch.items()} for part in range(parts)]


@pytest.mark.parametrize("name", AGGREGATES)
def test_any_number_of_micro_batches_gives_the_gradient_of_the_whole(batch, read, name):
    aggregate = AGGREGATES[name]

    def mean_over_rows(params):
        """Written out over rows, in the words of the aggregation's definition; each reads its prompt."""
        rows = [
            jnp.tanh((batch["values"][n, :length] + read(params)[QUESTIONS[n]][None]) @ params["w"])
            ** 2
            for n, length in enumerate(LENGTHS)
        ]
        return {
            "token_mean": sum(r.sum() for r in rows) / LENGTHS.sum(),
            "sequence_mean": sum(r.mean() for r in rows) / 8,
            "constant_length": sum(r.sum() / 9 for r in rows) / 8,
        }[name]

    expected_loss, expected = jax.jit(jax.value_and_grad(mean_over_rows))(PARAMS)
    loss_fn = partial(loss_and_metrics, aggregate)
    for parts in (1, 2, 4):
        gradients, loss, metrics = jax.jit(partial(in_parts, loss_fn, read))(
            PARAMS, cut(batch, parts)
        )
        for key, value in expected.items():
            np.testing.assert_allclose(gradients[key], value, atol=1e-6)
        np.testing.assert_allclose(loss.value(), expected_loss, rtol=1e-6)
        np.testing.assert_allclose(metrics["twice"].value(), 2 * expected_loss, rtol=1e-6)
        assert float(loss.count) == (LENGTHS.sum() if name == "token_mean" else 8)


def test_sums_of_low_precision_parameters_and_states_are_float32():
    """1 + 2^-9 needs more bits than bfloat16 has."""

    def loss_fn(params, states, x):
        return Mean(((params + states) * x.astype(params.dtype)).sum(), jnp.float32(1)), {}

    one = jnp.bfloat16(1)
    sums, wanted = zip(
        *(micro_batch_sums(loss_fn, one, one, jnp.float32(x)) for x in (1.0, 2.0**-9)), strict=True
    )
    for total in (sums[0].gradients + sums[1].gradients, wanted[0] + wanted[1]):
        assert total.dtype == jnp.float32
        assert float(total) == 1 + 2.0**-9
    back = prompt_gradients(lambda params: 2 * params, one, jnp.float32(0.5))
    assert back.dtype == jnp.float32 and float(back) == 1


def test_a_batch_without_tokens_has_no_gradient(batch, read):
    empty = batch | {"lengths": np.zeros(8, int)}
    loss_fn = partial(loss_and_metrics, losses.token_mean)
    gradients, loss, _ = in_parts(loss_fn, read, PARAMS, cut(empty, 2))
    for gradient in gradients.values():
        np.testing.assert_array_equal(gradient, 0)
    assert float(loss.value()) == 0


def test_gradients_of_a_bfloat16_vocabulary_do_not_stop_growing(tiny_params):
    """Thousands of tokens add to one row of the embedding: in bfloat16 the sum would stick at 256 of them."""
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny_params)
    params = {**params, "embedding": jnp.zeros_like(params["embedding"])}
    tokens = jnp.full((5000,), 7)

    def read(params):
        return jnp.take(params["embedding"], tokens, axis=0)[:, 0].astype(jnp.float32)

    def loss_fn(params, states, batch):
        return Mean(read(params).sum(), jnp.float32(1.0)), {}

    sums, _ = micro_batch_sums(loss_fn, params, jnp.float32(0), tokens)
    assert sums.gradients["embedding"][7, 0] == 5000
    of_prompts = prompt_gradients(read, params, jnp.ones(5000))
    assert of_prompts["embedding"][7, 0] == 5000
