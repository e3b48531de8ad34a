"""Slices that exist, and the compiler's own word on their memory."""

import importlib.util
import re

import pytest

import launch.without_hardware  # noqa: F401  before JAX is imported
from launch.topology import CHIPS, describe_topology, parse_mesh
from riskpo_jax.errors import UserError
from riskpo_jax.sharding import make_mesh

needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: TPU programs are not compiled (pip install -e '.[tpu]')",
)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v7:2x2", "no chip 'v7'; give one of v4, v5e, v5p, v6e"),
        ("v5e", "v5e has no slice ''; there are v5e:2x2, "),
        ("v5e:3x3", "v5e has no slice '3x3'; there are v5e:2x2, v5e:2x4, "),
        ("v5p:16x16", "there are v5p:2x2x1, "),
    ],
)
def test_a_slice_that_does_not_exist_names_those_that_do(name, said):
    with pytest.raises(UserError, match=f"^--topology={name}: .*{said}"):
        describe_topology(name)


def test_meshes_are_read():
    assert parse_mesh("data=1,fsdp=32,tensor=8") == {
        "mesh.data": 1,
        "mesh.fsdp": 32,
        "mesh.tensor": 8,
    }
    assert parse_mesh("fsdp=4, data=-1") == {"mesh.fsdp": 4, "mesh.data": -1}


@pytest.mark.parametrize("text", ["", "fsdp", "fsdp=", "fsdp=x", "model=8", "fsdp=2,fsdp=2", "8x8"])
def test_meshes_that_are_none_are_refused(text):
    with pytest.raises(UserError, match=f"^--mesh={text}: .* such as data=1,fsdp=32,tensor=8$"):
        parse_mesh(text)


@needs_libtpu
@pytest.mark.parametrize("kind", CHIPS)
def test_every_slice_has_its_chips(kind):
    for shape in CHIPS[kind].slices:
        _, devices = describe_topology(f"{kind}:{shape}")
        product = 1
        for size in shape.split("x"):
            product *= int(size)
        assert len(devices) == product


@needs_libtpu
@pytest.mark.parametrize("kind", CHIPS)
def test_usable_memory_is_what_the_compiler_has(kind):
    """It says so of a program that is too large."""
    import jax

    chip, devices = describe_topology(f"{kind}:{CHIPS[kind].slices[0]}")
    place = jax.sharding.SingleDeviceSharding(devices[0])
    array = jax.ShapeDtypeStruct((2**38,), "float32", sharding=place)
    with pytest.raises(jax.errors.JaxRuntimeError) as error:
        jax.jit(lambda x: x + 1).lower(array).compile()
    available = float(re.search(r"available HBM \(([\d.]+)G\)", str(error.value))[1])
    assert available == pytest.approx(chip.usable_gib, abs=0.02)  # releases differ by as much


@needs_libtpu
def test_a_mesh_may_split_the_sides_of_a_torus():
    """8 is no product of sides of 4 x 4 x 4."""
    _, devices = describe_topology("v5p:4x4x4")
    mesh = make_mesh(data=8, fsdp=8, tensor=1, devices=devices)
    assert len({device.id for device in mesh.devices.flat}) == 64
