"""The cut of a stored tensor gives every device what it has of the stacked leaf, and no more."""

import math

import pytest
from jax.sharding import AbstractMesh, NamedSharding, PartitionSpec

from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.hf_names import leaves
from riskpo_jax.models.partitioning import abstract_params, param_shardings
from riskpo_jax.sharding import MESH_AXES


@pytest.mark.parametrize("sizes", [(1, 4, 2), (2, 2, 2), (1, 1, 8), (8, 1, 1), (1, 8, 1)])
def test_a_device_reads_its_part_only(sizes, make_config):
    """Heads, or else key-value heads, that do not divide are whole in both."""
    config = make_config(model_type="llama", o_bias=True, mlp_bias=True)
    mesh = AbstractMesh(sizes, MESH_AXES)
    shardings = param_shardings(abstract_params(Decoder(config)), mesh)
    for leaf in leaves(config):
        sharding = shardings
        for key in leaf.path:
            sharding = sharding[key]
        part = math.prod(sharding.shard_shape(leaf.shape)) // len(leaf.hf_names)
        assert math.prod(leaf.hf_sharding(sharding).shard_shape(leaf.hf_shape)) == part, leaf.path


def test_a_cut_within_the_heads_is_not_made(make_config):
    (q,) = (leaf for leaf in leaves(make_config()) if leaf.path[-1] == "q")  # hd,m->mhd
    mesh = AbstractMesh((1, 4, 2), MESH_AXES)
    for ours, theirs in [
        ((None, "fsdp", "tensor", None), ("tensor", "fsdp")),
        ((None, "fsdp", None, "tensor"), (None, "fsdp")),
        ((None, None, "tensor"), ("tensor", None)),
        ((), (None, None)),
    ]:
        sharding = q.hf_sharding(NamedSharding(mesh, PartitionSpec(*ours)))
        assert sharding == NamedSharding(mesh, PartitionSpec(*theirs))
