"""Training adapters: the gradient by the chain rule, the same loss as the merged model, a base at rest."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict

from riskpo_jax.models import lora
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.lora import A, B, Lora
from riskpo_jax.models.partitioning import placed_shapes
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training.micro_batches import Sequences, largest_chunk
from riskpo_jax.training.setup import make_optimizer
from riskpo_jax.training.supervised import make_supervised_step
from riskpo_jax.training.train_step import make_policy_update, make_train_step
from riskpo_jax.training.weights import trained_shapes

LORA = Lora(rank=2, alpha=3.0, matrices=("q", "v", "o", "gate", "down"))


@pytest.fixture(scope="module")
def adapted(tiny_model):
    return tiny_model.clone(lora=LORA)


@pytest.fixture(scope="module")
def adapters(adapted):
    """As in the middle of a run: neither A nor B is zero."""
    shapes, rng = trained_shapes(adapted, make_mesh()), np.random.default_rng(0)
    return jax.tree.map(lambda x: jnp.float32(0.2 * rng.standard_normal(x.shape)), shapes)


@pytest.fixture(scope="module")
def config(make_config):
    return make_config(algorithm__kl_coef=0.3, train__tokens_per_micro_batch=32)


@pytest.fixture(scope="module")
def step(config, adapted, descent):
    step = make_train_step(config, adapted, descent, make_mesh())
    return lambda state, *batch: step(jax.tree.map(jnp.copy, state), *batch)


def through_the_merge(adapters, gradient):
    """The chain rule for W + s A B, layer by layer: dA = s dW B^T and dB = s A^T dW."""
    flat, gradient, expected = flatten_dict(adapters), flatten_dict(gradient), {}
    for (*block, name), a in flat.items():
        if name.endswith(A):
            name = name.removesuffix(A)
            b, dw = flat[*block, name + B], gradient[*block, name]
            layers, rank = len(a), LORA.rank
            a_LxIxR, b_LxRxO = a.reshape(layers, -1, rank), b.reshape(layers, rank, -1)
            dw_LxIxO = dw.reshape(layers, a_LxIxR.shape[1], -1)
            da = LORA.scale * np.einsum("lio,lro->lir", dw_LxIxO, b_LxRxO)
            db = LORA.scale * np.einsum("lir,lio->lro", a_LxIxR, dw_LxIxO)
            expected[*block, name + A] = da.reshape(a.shape)
            expected[*block, name + B] = db.reshape(b.shape)
    return expected


def test_a_step_on_adapters_is_the_step_on_the_merged_model_through_the_chain_rule(
    config, make_tiny_state, jitted_step, step, descent, adapters, tiny_params, experience
):
    """Same loss, same metrics, same KL to a reference of its own; gradients as W + s A B has them."""
    reference = jax.tree.map(lambda x: 0.5 * x, adapters)
    merged, merged_reference = (lora.merge(tiny_params, x, LORA) for x in (adapters, reference))

    batch = experience.prompts, experience.rollout, experience.rewards
    state = make_tiny_state(config, adapters, descent)
    after, metrics = step(state, tiny_params, *batch, reference)
    plain = make_tiny_state(config, merged, descent)
    plain_after, plain_metrics = jitted_step(config, descent)(plain, *batch, merged_reference)

    assert metrics["policy/reference_kl"] > 1e-3
    assert metrics.keys() == plain_metrics.keys()
    for name in metrics.keys() - {"grad/norm"}:
        assert float(metrics[name]) == pytest.approx(float(plain_metrics[name]), rel=1e-4, abs=1e-5)

    gradient = jax.tree.map(jnp.subtract, merged, plain_after.params)
    expected = through_the_merge(adapters, gradient)
    found = flatten_dict(jax.tree.map(jnp.subtract, adapters, after.params))
    assert found.keys() == expected.keys()
    scale = float(optax.tree.norm(expected))
    assert float(metrics["grad/norm"]) == pytest.approx(scale, rel=1e-4)
    for path, value in expected.items():
        np.testing.assert_allclose(found[path], value, atol=2e-5 * scale, err_msg=str(path))


def test_the_reference_is_the_initial_adapters_on_the_same_base(
    config, make_tiny_state, step, descent, adapters, tiny_params, experience
):
    batch = experience.prompts, experience.rollout, experience.rewards
    state = make_tiny_state(config, adapters, descent)
    _, metrics = step(state, tiny_params, *batch, adapters)
    assert 0 <= float(metrics["policy/reference_kl"]) < 1e-9


def test_only_adapters_have_state_and_the_base_is_not_touched(
    make_config, make_tiny_state, adapted, adapters, tiny_params, experience
):
    """Not in the state, not among the step's results, and the same bytes afterwards."""
    config = make_config(train__learning_rate=0.1)
    optimizer = make_optimizer(config)
    frozen = jax.tree.map(lambda x: x.astype(jnp.bfloat16), tiny_params)
    before = [np.asarray(x).tobytes() for x in jax.tree.leaves(frozen)]
    state = make_tiny_state(config, jax.tree.map(jnp.copy, adapters), optimizer)
    trained = sum(x.size for x in jax.tree.leaves(adapters))
    floats = [x for x in jax.tree.leaves(state) if jnp.issubdtype(x.dtype, jnp.floating)]
    assert sum(x.size for x in floats) == 3 * trained + state.tracker.values.size

    batch = experience.prompts, experience.rollout, experience.rewards
    train_step = make_train_step(config, adapted, optimizer, make_mesh())
    for _ in range(2):
        state, metrics = train_step(state, frozen, *batch, None)
        assert float(metrics["grad/norm"]) > 0 and not metrics["grad/skipped"]
    assert jax.tree.structure(state.params) == jax.tree.structure(adapters)
    assert [np.asarray(x).tobytes() for x in jax.tree.leaves(frozen)] == before
    moved = jax.tree.map(lambda a, b: (a != b).all(), state.params, adapters)
    assert all(jax.tree.leaves(moved))


def test_the_update_makes_no_gradient_and_no_copy_of_the_base(make_config):
    """Its temporaries are smaller than a base which is large beside the activations.

    Layers in a loop: one after another, as by default on a CPU, XLA holds copies of their weights.
    """
    config = make_config(lora__rank=1, train__tokens_per_micro_batch=16, model__unroll=1)
    sizes = DecoderConfig(23, 512, 1024, 6, 4, 2, 128)
    model = Decoder(sizes, remat="all", lora=Lora(rank=1, alpha=1.0))
    base, adapters = lora.split(placed_shapes(model, make_mesh()))

    def temporaries(model, params, frozen):
        update = make_policy_update(config, model, optax.sgd(1.0), make_mesh())
        prompts, batch = largest_chunk(update.budget, 1, prompt_width=4, longest=4)
        states = jax.eval_shape(update.read, params, frozen, prompts)
        args = params, frozen, states, None, None, prompts, batch
        sums, wanted = jax.eval_shape(update._sums, *args)
        programs = (
            update.add.lower(sums, wanted, *args),
            update.read_back.lower(sums, wanted, params, frozen, prompts),
        )
        return [p.compile().memory_analysis().temp_size_in_bytes for p in programs]

    size = sum(4 * x.size for x in jax.tree.leaves(base))
    assert max(temporaries(model, adapters, base)) < 0.5 * size
    plain = model.clone(lora=None)
    assert min(temporaries(plain, base, {})) > size  # what a gradient of it takes


def test_a_warm_start_trains_adapters(
    make_config, make_tiny_state, adapted, adapters, tiny_params, experience
):
    optimizer = optax.adam(0.05)
    config = make_config(
        train__stage="supervised", train__batch_size=4, train__tokens_per_micro_batch=16
    )
    first = jax.tree.map(lambda x: x[::4], experience.rollout)  # of each question
    solutions = Sequences(experience.prompts, first, np.zeros(4, np.float32))
    train = make_supervised_step(config, adapted, optimizer, make_mesh())
    initial = jax.tree.map(jnp.copy, adapters)
    state, losses = make_tiny_state(config, initial, optimizer), []
    for _ in range(20):
        state, metrics = train(state, tiny_params, solutions)
        losses.append(metrics["loss/nll"])
    assert losses[-1] < 0.5 * losses[0]
    assert jax.tree.structure(state.params) == jax.tree.structure(adapters)
