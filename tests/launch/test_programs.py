"""The programs that are planned are those of a run: their shapes, their arithmetic, their memory."""

import jax
import pytest

from launch.measure import measure
from launch.programs import ROLLOUT, UPDATE, bytes_a_chip, programs
from riskpo_jax.config import from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.partitioning import init_params
from riskpo_jax.training import setup

SHAPE = DecoderConfig(
    vocab_size=320,
    hidden_size=64,
    intermediate_size=160,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
)
P, R, Q, G = 16, 40, 4, 2
BLOCK = 32  # places of the sampler's timeline in one block, of which R takes two
SETTINGS = {
    "data.questions_per_step": Q,
    "data.max_prompt_length": P,
    "rollout.group_size": G,
    "rollout.max_response_length": R,
    "rollout.slots": 4,
    "rollout.steps_per_sync": 8,
    "algorithm.bundle_size": 2,
    "train.tokens_per_micro_batch": 2 * R,
}


def made(**settings):
    config = resolve(from_flat(SETTINGS | settings))
    mesh = setup.load_mesh(config, SHAPE, jax.devices()[:1])
    return programs(config, setup.make_model(config, SHAPE), mesh)


@pytest.fixture(scope="module")
def measured():
    return {name: measure(program, capacity=2**40) for name, program in made().items()}


def flops_a_token(attended: int) -> int:
    """Of one layer stack forward, for one token that attends to so many slots."""
    c = SHAPE
    heads = (c.num_heads * 2 + c.num_kv_heads * 2) * c.head_dim
    matrices = c.hidden_size * (heads + 3 * c.intermediate_size)
    return c.num_layers * (2 * matrices + 4 * attended * c.num_heads * c.head_dim)


def flops(measured, name: str) -> int:
    return measured[name].costs.flops


HEAD = 2 * SHAPE.vocab_size * SHAPE.hidden_size


def test_an_update_computes_six_operations_a_parameter_and_token(measured):
    """2 forward and 4 backward, with attention over all slots and the head at response slots only."""
    expected = 3 * Q * G * R * (flops_a_token(P + R) + HEAD)
    assert measured["gradient"].calls == 4  # of two responses each
    assert flops(measured, "gradient") == pytest.approx(expected, rel=1e-3)
    assert flops(measured, "apply") == 0


def test_each_prompt_is_read_once_a_question(measured):
    """And once more, with the gradient, on the way back, but for the last layer's values of the states."""
    once = Q * P * flops_a_token(P)
    assert flops(measured, "read prompts") == pytest.approx(once, rel=1e-3)
    assert 2.5 * once < flops(measured, "back through prompts") < 3.1 * once
    assert flops(measured, "read prompts to sample") == pytest.approx(once, rel=1e-3)


def test_a_rollout_computes_two_operations_a_parameter_and_token(measured):
    """As if every token came behind the longest timeline, two full blocks and the recent one.

    There are twice the prompt slots that four responses fill, since others wait.
    """
    expected = Q * G * R * (flops_a_token(2 * P + 3 * BLOCK) + HEAD)
    decode = measured["decode"]
    assert decode.calls == 2 * (R // 8)  # four responses at the same time, 8 tokens a call
    assert len(decode.costs.unknown_loops) == 1  # as many tokens as the call is told
    # not counted: the token itself
    assert decode.costs.flops == pytest.approx(expected, rel=2e-3)


def test_calls_are_those_of_a_step_of_full_lengths():
    changed = {"train.epochs": 3, "algorithm.kl_coef": 0.1, "train.tokens_per_micro_batch": P}
    calls = {name: program.calls for name, program in made(**changed).items()}
    # a question a chunk, a response a micro-batch; the policy and the reference read each prompt
    assert calls == {
        "read prompts": 3 * 4 * 2,
        "gradient": 3 * 8,
        "back through prompts": 3 * 4,
        "apply": 3,
        "read prompts to sample": 1,
        "decode": 10,
    }
    assert set(calls) | {"lay out"} == {*UPDATE, *ROLLOUT}


def test_nothing_is_sent_on_one_device(measured):
    assert all(m.costs.sent_bytes == 0 for m in measured.values())


def test_arguments_are_the_state_of_a_run(measured):
    """And the optimizer's state lies beside all that does not use it."""
    config = resolve(from_flat(SETTINGS))
    mesh = setup.load_mesh(config, SHAPE, jax.devices()[:1])
    model, optimizer = setup.make_model(config, SHAPE), setup.make_optimizer(config)
    params = init_params(model, jax.random.key(0), mesh)
    state = setup.make_state(config, params, optimizer, mesh)
    in_bytes = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))  # noqa: E731
    own, moments = in_bytes(params), in_bytes(state.opt_state)
    memory = {name: m.memory for name, m in measured.items()}
    # parameters, their gradients in float32, moments; the sums of metrics are some scalars
    assert memory["apply"].arguments == pytest.approx(2 * own + moments, rel=1e-3)
    token = SHAPE.num_layers * 2 * SHAPE.num_kv_heads * SHAPE.head_dim * 4
    # two prompt slots of the four responses, twice; two full blocks and the recent one
    cache = token * (4 * P + 4 * 3 * BLOCK)
    assert memory["decode"].arguments == pytest.approx(own + cache, rel=1e-3)
    assert memory["decode"].beside == memory["gradient"].beside == moments
    assert memory["decode"].total == sum(
        getattr(memory["decode"], part)
        for part in ("arguments", "outputs", "temporaries", "beside")
    )


def test_what_is_kept_of_training_lies_beside_a_copy_for_sampling():
    """Half the bytes of most parameters; what training stores lies beside it."""
    plain, halved = made(), made(**{"model.compute_dtype": "bfloat16"})
    assert "lay out" in halved and "lay out" not in plain
    params = halved["lay out"].arguments
    more = bytes_a_chip(halved["decode"].beside) - bytes_a_chip(plain["decode"].beside)
    assert more == bytes_a_chip(params)
    assert bytes_a_chip(halved["decode"].arguments[0]) < 0.51 * bytes_a_chip(params)


def test_what_has_no_room_for_its_arguments_is_not_compiled():
    program = made()["decode"]
    arguments = bytes_a_chip(program.arguments)
    least = measure(
        program._replace(function=None), capacity=arguments
    )  # no room for what is beside
    assert least.costs is None
    assert least.memory.total == arguments + bytes_a_chip(program.beside)


def test_bytes_a_chip_are_those_of_its_part():
    mesh = jax.sharding.AbstractMesh((2, 4), ("a", "b"))
    sharding = jax.sharding.NamedSharding(mesh, jax.P("b", "a"))
    x = jax.ShapeDtypeStruct((8, 6), "bfloat16", sharding=sharding)
    assert bytes_a_chip({"x": x, "none": None}) == 2 * 3 * 2
