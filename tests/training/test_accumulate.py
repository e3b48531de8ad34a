"""Gradients of a mean do not depend on how the rows were cut into micro-batches."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.algorithms import losses
from riskpo_jax.masked import Mean, length_mask
from riskpo_jax.training.accumulate import accumulate_gradients, split_rows

LENGTHS = np.array([9, 1, 1, 2, 1, 9, 1, 4])
AGGREGATES = {
    "token_mean": losses.token_mean,
    "sequence_mean": losses.sequence_mean,
    "constant_length": partial(losses.constant_length_mean, max_length=9),
}


@pytest.fixture(scope="module")
def batch():
    values = np.random.default_rng(0).standard_normal((8, 9, 4)).astype(np.float32)
    return {"values": values, "lengths": LENGTHS}


def loss_and_metrics(aggregate, params, batch):
    mask = length_mask(batch["lengths"], 9)
    loss = aggregate(jnp.tanh(batch["values"] @ params["w"]) ** 2, mask)
    return loss, {"twice": Mean(2 * loss.total, loss.count)}


@pytest.mark.parametrize("name", AGGREGATES)
def test_any_number_of_micro_batches_gives_the_gradient_of_the_whole(batch, name):
    aggregate = AGGREGATES[name]
    params = {"w": np.array([0.5, -1.0, 0.2, 0.8], np.float32)}

    def mean_over_rows(params):
        """Written out over rows, in the words of the aggregation's definition."""
        rows = [
            jnp.tanh(batch["values"][n, :length] @ params["w"]) ** 2
            for n, length in enumerate(LENGTHS)
        ]
        return {
            "token_mean": sum(r.sum() for r in rows) / LENGTHS.sum(),
            "sequence_mean": sum(r.mean() for r in rows) / 8,
            "constant_length": sum(r.sum() / 9 for r in rows) / 8,
        }[name]

    expected_loss, expected = jax.value_and_grad(mean_over_rows)(params)
    for parts in (1, 2, 4):
        gradients, loss, metrics = accumulate_gradients(
            partial(loss_and_metrics, aggregate), params, split_rows(batch, parts)
        )
        np.testing.assert_allclose(gradients["w"], expected["w"], atol=1e-6)
        np.testing.assert_allclose(loss.value(), expected_loss, rtol=1e-6)
        np.testing.assert_allclose(metrics["twice"].value(), 2 * expected_loss, rtol=1e-6)
        assert float(loss.count) == (LENGTHS.sum() if name == "token_mean" else 8)


def test_gradients_of_low_precision_parameters_add_up_in_float32(batch):
    """1 + 2^-9 needs more bits than bfloat16 has."""
    rows = np.array([1.0, 2.0**-9], np.float32)[:, None]
    gradients, _, _ = accumulate_gradients(
        lambda params, x: (Mean((params * x.astype(params.dtype)).sum(), jnp.float32(1)), {}),
        jnp.bfloat16(1),
        rows,
    )
    assert gradients.dtype == jnp.float32
    assert float(gradients) == (1 + 2.0**-9) / 2


def test_a_batch_without_tokens_has_no_gradient(batch):
    empty = batch | {"lengths": np.zeros(8, int)}
    params = {"w": jnp.ones(4)}
    gradients, loss, _ = accumulate_gradients(
        partial(loss_and_metrics, losses.token_mean), params, split_rows(empty, 2)
    )
    np.testing.assert_array_equal(gradients["w"], 0)
    assert float(loss.value()) == 0


@pytest.mark.parametrize(("parts", "size"), [(1, 5), (3, 2), (4, 1)])
def test_split_rows_deals_every_row_once_with_its_companions(parts, size):
    rows = np.arange(parts * size)
    split = split_rows({"row": rows, "pair": np.stack([rows, -rows], axis=1)}, parts)
    assert split["row"].shape == (parts, size) and split["pair"].shape == (parts, size, 2)
    assert sorted(np.ravel(split["row"])) == rows.tolist()
    np.testing.assert_array_equal(split["pair"][..., 0], split["row"])
    np.testing.assert_array_equal(split["pair"][..., 1], -split["row"])
    # Neighbours, which share a device, go to different parts.
    assert all(set(np.ravel(split["row"][part]) % parts) == {part} for part in range(parts))


def test_gradients_of_a_bfloat16_vocabulary_do_not_stop_growing(tiny_model, tiny_params):
    """Thousands of tokens add to one row of the embedding: in bfloat16 the sum would stick at 256 of them."""
    params = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny_params)
    params = {**params, "embedding": jnp.zeros_like(params["embedding"])}

    def loss_fn(params, tokens_N):
        rows_NxM = jnp.take(params["embedding"], tokens_N, axis=0)
        return Mean(jnp.sum(rows_NxM[:, 0]).astype(jnp.float32), jnp.float32(1.0)), {}

    tokens = jnp.full((1, 5000), 7)
    gradients, _, _ = accumulate_gradients(loss_fn, params, tokens)
    assert gradients["embedding"][7, 0] == 5000
