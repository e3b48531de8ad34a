"""Meshes of the right size, and errors with the numbers when there is none."""

import jax
import pytest
from jax.sharding import AbstractMesh, AxisType, NamedSharding, PartitionSpec

from riskpo_jax.errors import UserError
from riskpo_jax.sharding import (
    LOGICAL_RULES,
    MESH_AXES,
    batch_sharding,
    fit,
    make_mesh,
    replicated,
)

ONE = jax.devices()[:1]


def test_one_device_is_a_mesh_of_one():
    mesh = make_mesh(devices=ONE)
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "tensor": 1}
    assert set(mesh.axis_types) == {AxisType.Auto}


@pytest.mark.parametrize("sizes", [(2, 1, 1), (-1, 2, 1), (-1, 1, 3), (1, 2, 2)])
def test_sizes_that_do_not_multiply_to_the_devices(sizes):
    with pytest.raises(UserError, match="needs [234] devices, there are 1; .* product is 1"):
        make_mesh(*sizes, devices=ONE)


@pytest.mark.parametrize("sizes", [(0, 1, 1), (-2, 1, 1), (1, 0, 1), (1, 1, -1)])
def test_sizes_below_one(sizes):
    with pytest.raises(UserError, match="1 or more"):
        make_mesh(*sizes, devices=ONE)


def test_rules_name_mesh_axes_only():
    for _, axes in LOGICAL_RULES:
        axes = (axes,) if isinstance(axes, str) else axes or ()
        assert set(axes) <= set(MESH_AXES)


def test_batches_are_split_over_data_and_fsdp():
    mesh = AbstractMesh((4, 2, 3), MESH_AXES)
    assert batch_sharding(mesh).shard_shape((16, 5)) == (2, 5)
    assert replicated(mesh).shard_shape((16, 5)) == (16, 5)


def test_fit_leaves_whole_what_does_not_divide():
    mesh = AbstractMesh((2, 4, 3), MESH_AXES)
    sharding = NamedSharding(mesh, PartitionSpec("tensor", ("data", "fsdp")))
    assert fit(sharding, (9, 16)).spec == PartitionSpec("tensor", ("data", "fsdp"))
    assert fit(sharding, (10, 16)).spec == PartitionSpec(None, ("data", "fsdp"))
    assert fit(sharding, (9, 12)).spec == PartitionSpec("tensor", None)
