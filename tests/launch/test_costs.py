"""Counted FLOPs and bytes are those of arithmetic."""

import json
import os
import subprocess
import sys
import textwrap

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from launch.costs import KINDS, costs, group_size
from launch.hlo import parse


def compiled(function, *shapes):
    args = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return jax.jit(function).lower(*args).compile()


def counted(function, *shapes):
    return costs(parse(compiled(function, *shapes).as_text()))


def test_a_product_is_two_operations_for_each_of_its_terms():
    assert counted(jnp.matmul, (30, 40), (40, 50)).flops == 2 * 30 * 40 * 50


def test_batched_products_and_their_gradients():
    def loss(x, w):
        return jnp.einsum("bij,bjk->bik", x, w).sum()

    flops = 2 * 6 * 30 * 40 * 50
    assert counted(loss, (6, 30, 40), (6, 40, 50)).flops == flops
    gradients = counted(
        lambda x, w: jax.grad(lambda *a: jnp.square(jnp.matmul(*a)).sum(), (0, 1))(x, w),
        (30, 40), (40, 50),
    )  # fmt: skip
    assert gradients.flops == 3 * 2 * 30 * 40 * 50


def test_a_scan_costs_its_length_times_its_body():
    def repeated(x, w):
        return lax.scan(lambda y, _: (y @ w, None), x, None, length=11)[0]

    assert counted(repeated, (30, 40), (40, 40)).flops == 11 * 2 * 30 * 40 * 40


@pytest.mark.parametrize(
    "options",
    [
        {"window_strides": (1, 1), "padding": "SAME"},
        {"window_strides": (2, 3), "padding": ((0, 2), (3, 1))},
        {"window_strides": (1, 1), "padding": ((3, 3), (2, 0)), "lhs_dilation": (2, 1)},
        {"window_strides": (1, 2), "padding": "VALID", "rhs_dilation": (2, 2)},
        {"window_strides": (1, 1), "padding": "SAME", "feature_group_count": 2},
    ],
)
def test_convolutions_count_what_the_compiler_counts(options):
    groups = options.get("feature_group_count", 1)
    lowered = jax.jit(lambda x, w: lax.conv_general_dilated(x, w, **options)).lower(
        jnp.ones((2, 4, 9, 10)), jnp.ones((6, 4 // groups, 3, 4))
    )
    program = lowered.compile()
    assert costs(parse(program.as_text())).flops == lowered.cost_analysis()["flops"]


# The query projection as the TPU compiler writes it, x[64, 1536, 128] w[128, 8, 128]: heads are an axis of
# the window, which meets the one element of the input amid its padding.
TPU_CONVOLUTION = """\
HloModule jit_f, num_partitions=512

%all-reduce-scatter.clone (input: f32[64,512]) -> f32[1,512] {
  %input = f32[64,512]{1,0} parameter(0)
  %all-reduce.2 = f32[64,512]{1,0} all-reduce(%input), replica_groups=[8,64]<=[64,8]T(1,0)
  ROOT %slice = f32[1,512]{1,0} slice(%all-reduce.2)
}

ENTRY %main (x: bf16[64,1536,128,1], w: bf16[128,8,128,1]) -> bf16[64,1536,8,128] {
  %x = bf16[64,1536,128,1]{2,1,0,3:T(8,128)(2,1)} parameter(0)
  %w = bf16[128,8,128,1]{2,1,0,3} parameter(1)
  %y = f32[64,512]{1,0} parameter(2)
  %fusion = f32[1,512]{1,0} fusion(%y), kind=kCustom, calls=%all-reduce-scatter.clone
  %start = bf16[128,8,128]{2,1,0} all-gather(%w), replica_groups={{0,1,2,3},{4,5,6,7}}, \
backend_config={"async_collective_fusion_config":{"flag_start":"-1","flag_end":"-1"}}
  %next = bf16[128,8,128]{2,1,0} all-gather(%w), replica_groups={{0,1,2,3},{4,5,6,7}}, \
backend_config={"async_collective_fusion_config":{"flag_start":"2","flag_end":"8"}}
  ROOT %c = bf16[64,1536,8,128]{3,1,2,0} convolution(%x, %w), window={size=1x8 pad=0_0x7_7 \
rhs_reversal=0x1}, dim_labels=0bf1_i1o0->0b1f, backend_config={"window_config":{"estimated_cycles":"43520"}}
}
"""


def test_the_tpu_compilers_ways_of_writing():
    found = costs(parse(TPU_CONVOLUTION))
    assert found.flops == 2 * 64 * 1536 * 128 * (8 * 128)
    assert found.cycles == 43520
    assert {kind: (c.count, c.sent_bytes) for kind, c in found.collectives.items()} == {
        "all-gather": (1, 3 * 128 * 8 * 128 * 2),
        "reduce-scatter": (1, 64 * 512 * 4 * 63 // 64),
    }


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("replica_groups={{0,8,16},{1,9,17}}, dimensions={0}", 3),
        ("replica_groups=[64,8]<=[512], use_global_device_ids=true", 8),
        ("replica_groups=[8,64]<=[64,8]T(1,0), dimensions={1}", 64),
        ("replica_groups=mesh['axis_0'=64,'axis_1'=1,'axis_2'=8] {'axis_2'}, x", 8),
        (
            "replica_groups=mesh['axis_0'=8,'axis_1'=64], device_ids=([64,8]T(1,0)) {'axis_0','axis_1'}",
            512,
        ),
        ("replica_groups={}, channel_id=1", 16),
    ],
)
def test_group_sizes_in_all_notations(text, size):
    assert group_size(text, devices=16) == size


COLLECTIVES = """
    import json
    from functools import partial
    import jax, jax.numpy as jnp
    from jax import lax
    from jax.sharding import PartitionSpec as P
    from launch.costs import costs
    from launch.hlo import parse

    mesh = jax.make_mesh((2, 4), ("a", "b"), axis_types=(jax.sharding.AxisType.Auto,) * 2)

    @jax.jit
    @partial(jax.shard_map, mesh=mesh, in_specs=P("a", "b"), out_specs=P("a", "b"), check_vma=False)
    def f(x):  # [8, 16] a device
        def turn(x, _):
            x = lax.psum(x, "b")
            x = lax.all_gather(x, "b", axis=0, tiled=True)  # [32, 16]
            x = lax.psum_scatter(x, "b", scatter_dimension=0, tiled=True)  # [8, 16]
            x = lax.all_to_all(x, "b", split_axis=1, concat_axis=1, tiled=True)
            return lax.ppermute(x, "a", [(0, 1), (1, 0)]), None
        return lax.scan(turn, x, None, length=3)[0]

    text = f.lower(jax.ShapeDtypeStruct((16, 64), jnp.float32)).compile().as_text()
    print(json.dumps({k: (c.count, c.sent_bytes) for k, c in costs(parse(text)).collectives.items()}))
"""


def test_collectives_of_a_real_program():
    """On 8 virtual devices, in a loop of 3: kinds, counts, and the bytes that a ring of 4 sends."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(COLLECTIVES)],
        env=os.environ | flags, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    block = 8 * 16 * 4
    assert json.loads(done.stdout) == {
        "all-gather": [3, 3 * 3 * block],
        "reduce-scatter": [3, 3 * 4 * block * 3 // 4],
        "all-reduce": [3, 3 * 2 * block * 3 // 4],
        "all-to-all": [3, 3 * block * 3 // 4],
        "collective-permute": [3, 3 * block],
    }
    assert list(json.loads(done.stdout)) == list(KINDS)
