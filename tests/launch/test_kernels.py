"""Splash attention's FLOPs are those of the blocks that its kernels compute."""

import importlib.util

import pytest

import launch.without_hardware  # noqa: F401  before JAX is imported
from launch.costs import costs
from launch.hlo import parse
from launch.topology import describe_topology

H, K, T, S, D = 12, 2, 3072, 4096, 128
# As the TPU compiler writes the kernels of one row behind a prompt, shortened.
KERNEL = """\
HloModule jit_f, num_partitions=4

ENTRY %main (mask: s8[1,6,8], q: bf16[12,3072,128], k: bf16[2,4096,128]) -> bf16[12,3072,128] {{
  %mask = s8[1,6,8]{{2,1,0:T(8,128)(4,1)S(1)}} parameter(0)
  %q = bf16[12,3072,128]{{2,1,0:T(8,128)(2,1)}} parameter(1)
  %k = bf16[2,4096,128]{{2,1,0:T(8,128)(2,1)}} parameter(2)
  %seen = s32[8,4096]{{1,0:T(8,128)}} parameter(3)
  ROOT %{name} = (f32[512,128], bf16[12,3072,128]) custom-call(%mask, %q, %k, %k, /*index=4*/%seen), \
custom_call_target="tpu_custom_call", frontend_attributes={{kernel_metadata={{
"xprof_metadata":"{{\\"block_q\\": 512}}"
}}}}, metadata={{op_name="jit(f)/pallas_call"}}
}}
"""


@pytest.mark.parametrize(
    ("name", "products"),
    [
        ("splash_mha_fwd_segmented_residuals.1", 2),
        ("splash_mha_dkv_segmented_no_residuals.2", 4),
        ("splash_mha_dq_segmented_no_residuals", 3),
        ("another_kernel.1", 0),
    ],
)
def test_blocks_that_nobody_sees_are_left_out(name, products):
    # Blocks of 512: the first of 6 rows of them sees the prompt's two and its own, the next one more.
    blocks = sum(range(3, 9))
    expected = products * 2 * H * D * blocks * 512**2
    assert costs(parse(KERNEL.format(name=name))).flops == expected


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: TPU programs are not compiled (pip install -e '.[tpu]')",
)
@pytest.mark.parametrize("key_heads", [2, 1])  # one is copied to both chips of a row
def test_splash_compiles_for_a_mesh_of_tpus(key_heads):
    """And its FLOPs, forward and backward, are those of the blocks of a chip's own rows and heads."""
    import jax
    import jax.numpy as jnp

    from riskpo_jax.models.attention import KV
    from riskpo_jax.models.flash_attention import splash
    from riskpo_jax.sharding import batch_sharding, make_mesh

    rows, queries, prompt = 4, 512, 256
    _, devices = describe_topology("v5e:2x2")
    mesh = make_mesh(1, 2, 2, devices)

    def loss(q, k, v, seen):
        return splash(mesh, q, KV(k, v), seen, prompt).astype(jnp.float32).sum()

    def struct(*shape, dtype=jnp.bfloat16):
        return jax.ShapeDtypeStruct(shape, dtype, sharding=batch_sharding(mesh))

    keys = struct(rows, key_heads, prompt + queries, D)
    arguments = struct(rows, queries, 4, D), keys, keys
    seen = struct(rows, prompt + queries, dtype=bool)
    compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*arguments, seen).compile()
    # two rows and two heads a chip; a block of 512 x 384 twice; 2 products forward and 7 backward
    expected = 9 * 2 * (rows // 2) * 2 * D * 512 * (2 * 384)
    assert costs(parse(compiled.as_text())).flops == expected
