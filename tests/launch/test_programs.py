"""The programs that are planned are those of a run: their shapes, their arithmetic, their memory."""

import os
import subprocess
import sys
import textwrap

import jax
import pytest

from launch.measure import measure
from launch.programs import bytes_a_chip, plan_mesh, programs
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
P, R, Q, G = 16, 24, 4, 2
SETTINGS = {
    "data.questions_per_step": Q,
    "data.max_prompt_length": P,
    "rollout.group_size": G,
    "rollout.max_response_length": R,
    "rollout.questions_at_once": 2,
    "algorithm.bundle_size": 2,
    "train.micro_batch_size": 4,
}


@pytest.fixture(scope="module")
def measured():
    config = resolve(from_flat(SETTINGS))
    mesh = plan_mesh(config, SHAPE, jax.devices()[:1])
    made = programs(config, setup.make_model(config, SHAPE), mesh)
    return {name: measure(program, capacity=2**40) for name, program in made.items()}


def flops_a_token(attended: int) -> int:
    """Of one layer stack forward, for one token that attends to so many slots."""
    c = SHAPE
    heads = (c.num_heads * 2 + c.num_kv_heads * 2) * c.head_dim
    matrices = c.hidden_size * (heads + 3 * c.intermediate_size)
    return c.num_layers * (2 * matrices + 4 * attended * c.num_heads * c.head_dim)


def test_an_update_computes_six_operations_a_parameter_and_token(measured):
    """2 forward and 4 backward, with attention over all slots and the head at response slots only."""
    head = 2 * SHAPE.vocab_size * SHAPE.hidden_size
    expected = 3 * Q * G * ((P + R) * flops_a_token(P + R) + R * head)
    assert measured["train step"].costs.flops == pytest.approx(expected, rel=1e-3)


def test_a_rollout_computes_two_operations_a_parameter_and_token(measured):
    head = 2 * SHAPE.vocab_size * SHAPE.hidden_size
    prefill = Q * (P * flops_a_token(P + R) + head)
    decode = Q * G * (R - 1) * (flops_a_token(P + R) + head)
    rollout = measured["rollout"]
    assert rollout.calls == 2  # of two questions each
    assert rollout.costs.flops == pytest.approx(prefill + decode, rel=1e-3)


def test_nothing_is_sent_on_one_device(measured):
    assert all(m.costs.sent_bytes == 0 for m in measured.values())


def test_arguments_are_the_state_of_a_run(measured):
    """And the optimizer's state lies beside the rollout."""
    config = resolve(from_flat(SETTINGS))
    mesh = plan_mesh(config, SHAPE, jax.devices()[:1])
    model, optimizer = setup.make_model(config, SHAPE), setup.make_optimizer(config)
    params = init_params(model, jax.random.key(0), mesh)
    state = setup.make_state(config, params, optimizer, mesh)
    in_bytes = lambda tree: sum(x.nbytes for x in jax.tree.leaves(tree))  # noqa: E731
    batch = 4 * Q * (P + 1) + Q * G * (4 * R + 4 + 4 * R + 1) + 4 * Q * G
    update, rollout = measured["train step"].memory, measured["rollout"].memory
    # The compiled step need not take what it does not read, such as the padding of a tracker.
    assert update.arguments == pytest.approx(in_bytes(state) + batch, rel=1e-3)
    assert rollout.beside == in_bytes(state.opt_state)
    assert update.beside == 0
    assert rollout.total == sum(
        (rollout.arguments, rollout.outputs, rollout.temporaries, rollout.beside)
    )


def test_what_has_no_room_for_its_arguments_is_not_compiled():
    config = resolve(from_flat(SETTINGS))
    mesh = plan_mesh(config, SHAPE, jax.devices()[:1])
    program = programs(config, setup.make_model(config, SHAPE), mesh)["rollout"]
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


MESHES = """
    import jax
    from launch.programs import plan_mesh
    from riskpo_jax.config import from_flat
    from riskpo_jax.config_rules import resolve
    from riskpo_jax.errors import UserError
    from riskpo_jax.models.known import known
    from riskpo_jax.training import setup

    assert len(jax.devices()) == 8

    def mesh(data, fsdp, tensor, **settings):
        base = {"data.questions_per_step": 40, "mesh.data": data, "mesh.fsdp": fsdp, "mesh.tensor": tensor}
        settings = {name.replace("__", "."): value for name, value in settings.items()}
        config = resolve(from_flat(base | settings))
        try:
            return dict(plan_mesh(config, known("qwen2.5-7b"), jax.devices()).shape)
        except UserError as error:
            return str(error)

    print(mesh(1, 2, 4))
    print(mesh(1, 1, 8))
    print(mesh(1, 4, 1))
    print(mesh(8, 1, 1, data__questions_per_step=12, algorithm__bundle_size=4))
    print(mesh(2, 4, 1, train__micro_batch_size=20))
    print(mesh(2, 4, 1, rollout__questions_at_once=10))
"""


def test_meshes_that_do_not_divide_are_refused():
    """Devices, heads and batches, each in one line with the numbers."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MESHES)],
        env=os.environ | flags, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "{'data': 1, 'fsdp': 2, 'tensor': 4}",
        "--mesh: tensor=8 does not divide the model's 28 heads; 1, 2, 4, 7, 14, 28 do",
        "mesh (data=1, fsdp=4, tensor=1) needs 4 devices, there are 8; choose sizes whose product is 8",
        "--data.questions_per_step=12 does not divide over the mesh's 8 data shards",
        "--train.micro_batch_size=20 does not divide over the mesh's 8 data shards",
        "--rollout.questions_at_once=10 does not divide over the mesh's 8 data shards",
    ]
