"""FLOPs of splash attention's kernels, which the program only names: by arithmetic on their operands.

The kernels: jax.experimental.pallas.ops.tpu.splash_attention, as `riskpo_jax.models.flash_attention` calls
them.
"""

from __future__ import annotations

import math
import re

from launch.hlo import Computation, Instruction, arrays

# Products of queries and keys or of what has their sizes: scores and values forward; scores, and the
# gradients of weights, keys and values, or of weights and queries, backward.
_PRODUCTS = {"fwd": 2, "dkv": 4, "dq": 3}
_KERNEL = re.compile(r"splash_m[hq]a_(fwd|dkv|dq)")
_FLOATS = ("bf16", "f16", "f32")


def splash_flops(computation: Computation, call: Instruction) -> int:
    """Of one run of the kernel, 0 of any other custom call.

    Queries [..., H, T, D] see the keys [..., S, D] up to their own place, the last ones of which are
    theirs. Blocks that nobody sees are left out, as in the kernel; the int8 table has an entry a block.
    """
    kernel = _KERNEL.match(call.name)
    if kernel is None:
        return 0
    operands = [array for shape in computation.operand_shapes(call) for array in arrays(shape)]
    q, k, *_ = [sizes for kind, sizes in operands if kind in _FLOATS and len(sizes) >= 3]
    table = next(sizes for kind, sizes in operands if kind == "s8")
    T, S = q[-2], k[-2]
    q_block, kv_block = T // table[-2], S // table[-1]
    ends = range(S - T + q_block, S + 1, q_block)
    seen = sum(q_block * kv_block * -(-end // kv_block) for end in ends)
    return _PRODUCTS[kernel[1]] * 2 * math.prod(q[:-2]) * seen * q[-1]
