"""The warm start's loss is the mean token NLL, and it falls."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from riskpo_jax.sharding import make_mesh
from riskpo_jax.training.micro_batches import Sequences
from riskpo_jax.training.supervised import make_supervised_step
from riskpo_jax.types import Prompts, Rollout

N, P, R = 8, 5, 6
ADAM = optax.adam(0.02)


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    prompts = Prompts(
        rng.integers(0, 23, (N, P)).astype(np.int32), np.array([5, 1, 2, 5, 3, 4, 1, 5], np.int32)
    )
    tokens, lengths = rng.integers(0, 23, (N, R)), np.array([6, 1, 2, 6, 1, 1, 5, 3])
    unused = np.zeros((N, R), np.float32)
    return Sequences(
        prompts, Rollout(tokens.astype(np.int32), lengths, unused, lengths < 0), unused[:, 0]
    )


@pytest.fixture(scope="module")
def step(tiny_model, make_config):
    config = make_config(
        train__stage="supervised", train__batch_size=N, train__tokens_per_micro_batch=2 * R
    )
    step = make_supervised_step(config, tiny_model, ADAM, make_mesh())
    return lambda state, batch: step(jax.tree.map(jnp.copy, state), {}, batch)


def test_gradient_is_that_of_the_mean_negative_log_likelihood(
    tiny_model, tiny_params, batch, step, make_config, make_tiny_state, assert_trees_close,
    whole_logits,
):  # fmt: skip
    inputs = np.zeros((N, P + R), np.int32)
    wanted = []  # (row, slot whose logits predict it, token)
    prompts, solutions = batch.prompts, batch.responses
    for n, (p, r) in enumerate(zip(prompts.lengths, solutions.lengths, strict=True)):
        prompt, response = prompts.tokens[n, :p], solutions.tokens[n, :r]
        inputs[n, : p + r] = [*prompt, *response]
        wanted += [(n, p - 1 + t, token) for t, token in enumerate(response)]
    row, slot, token = map(np.array, zip(*wanted, strict=True))

    def nll(params):
        logits = whole_logits(tiny_model, params, inputs)
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
