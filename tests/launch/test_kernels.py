"""Splash attention's FLOPs are those of the blocks that its kernels compute."""

import pytest

from launch.costs import costs
from launch.hlo import parse

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
