"""The warm start's loss is the mean token NLL, and it falls."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from riskpo_jax.training.supervised import SupervisedBatch, make_supervised_step

N, P, R = 8, 5, 6
ADAM = optax.adam(0.02)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    return SupervisedBatch(
        rng.integers(0, 23, (N, P)).astype(np.int32),
        np.array([5, 1, 2, 5, 3, 4, 1, 5], np.int32),
        rng.integers(0, 23, (N, R)).astype(np.int32),
        np.array([6, 1, 2, 6, 1, 1, 5, 3], np.int32),
    )


@pytest.fixture(scope="module")
def step(tiny_model):
    step = jax.jit(make_supervised_step(tiny_model, ADAM, micro_batches=4))
    return lambda state, batch: step(state, {}, batch)


def test_gradient_is_that_of_the_mean_negative_log_likelihood(
    tiny_model, tiny_params, batch, step, make_config, make_tiny_state, assert_trees_close
):
    inputs = np.zeros((N, P + R), np.int32)
    wanted = []  # (row, slot whose logits predict it, token)
    for n, (p, r) in enumerate(zip(batch.prompt_lengths, batch.response_lengths, strict=True)):
        prompt, response = batch.prompt_tokens[n, P - p :], batch.response_tokens[n, :r]
        inputs[n, : p + r] = [*prompt, *response]
        wanted += [(n, p - 1 + t, token) for t, token in enumerate(response)]
    row, slot, token = map(np.array, zip(*wanted, strict=True))

    def nll(params):
        T = P + R
        positions = jnp.broadcast_to(jnp.arange(T), (N, T))
        mask = jnp.broadcast_to(jnp.tril(jnp.ones((T, T), bool)), (N, T, T))
        hidden, _ = tiny_model.apply({"params": params}, inputs, positions, mask)
        logits = tiny_model.apply({"params": params}, hidden, method="unembed")
        return -jax.nn.log_softmax(logits)[row, slot, token].mean()

    loss, gradient = jax.jit(jax.value_and_grad(nll))(tiny_params)
    after, metrics = step(make_tiny_state(make_config(), tiny_params, ADAM), batch)
    # After one update Adam's first moment is (1 - b1) times the gradient.
    assert_trees_close(jax.tree.map(lambda mu: mu / 0.1, after.opt_state[0].mu), gradient)
    assert float(metrics["loss/nll"]) == pytest.approx(float(loss), rel=1e-5)
    assert int(after.step) == 1 and int(after.position) == N


def test_a_batch_can_be_memorised(tiny_params, batch, step, make_config, make_tiny_state):
    state = make_tiny_state(make_config(), tiny_params, ADAM)
    losses = []
    for _ in range(60):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss/nll"]))
        assert float(metrics["grad/skipped"]) == 0
    assert losses[0] > 2 and losses[-1] < 0.05
    assert float(metrics["policy/entropy"]) < 0.2
    assert int(state.position) == 60 * N
