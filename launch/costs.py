"""What one run of a compiled program costs a chip: FLOPs, cycles, and bytes over the interconnect."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from launch.hlo import Computation, Instruction, Module, arrays, size_in_bytes
from launch.kernels import splash_flops
from launch.loops import executions

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
_CYCLES = re.compile(r'"estimated_cycles":"(\d+)"')
_CONTINUES = re.compile(r'"async_collective_fusion_config":\{"flag_start":"\d')  # the start has -1


@dataclass(frozen=True)
class Collective:
    """One kind of collective: how often it is started, and the bytes that each chip sends in it."""

    count: int
    sent_bytes: int


@dataclass(frozen=True)
class Costs:
    """On one chip.

    flops: of matrix products, convolutions and splash attention, a multiply and add as two. cycles: the
    compiler's estimate, which leaves out collectives and custom kernels; 0 where the backend gives none.
    unknown_loops: whose length the program does not tell.
    """

    flops: int
    cycles: int
    collectives: dict[str, Collective] = field(default_factory=dict)
    unknown_loops: tuple[str, ...] = ()

    @property
    def sent_bytes(self) -> int:
        return sum(collective.sent_bytes for collective in self.collectives.values())

    def times(self, runs: int) -> Costs:
        """Of so many runs."""
        collectives = {
            kind: Collective(runs * c.count, runs * c.sent_bytes)
            for kind, c in self.collectives.items()
        }
        return Costs(runs * self.flops, runs * self.cycles, collectives, self.unknown_loops)


def costs(module: Module, turns_untold: int = 1) -> Costs:
    """Adds up every instruction as often as it runs; see `launch.loops.executions`."""
    counts, unknown = executions(module, turns_untold)
    flops, cycles, collectives = 0, 0, {}
    for name, times in counts.items():
        computation = module.computations[name]
        for instruction in computation.instructions.values():
            flops += times * instruction_flops(computation, instruction)
            if found := _CYCLES.search(instruction.attributes):
                cycles += times * int(found[1])
            if kind := collective_kind(computation, instruction):
                so_far = collectives.get(kind, Collective(0, 0))
                sent = sent_bytes(kind, computation, instruction, module.devices)
                collectives[kind] = Collective(
                    so_far.count + times, so_far.sent_bytes + times * sent
                )
    ordered = {kind: collectives[kind] for kind in KINDS if kind in collectives}
    return Costs(flops, cycles, ordered, tuple(unknown))


def instruction_flops(computation: Computation, instruction: Instruction) -> int:
    if instruction.opcode == "dot":
        return dot_flops(computation, instruction)
    if instruction.opcode == "convolution":
        return convolution_flops(computation, instruction)
    if instruction.opcode == "custom-call":
        return splash_flops(computation, instruction)
    return 0


def dot_flops(computation: Computation, dot: Instruction) -> int:
    """2 x elements of the result x elements summed for each of them."""
    left = _sizes(computation.operand(dot, 0).shape)
    contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", dot.attributes)
    axes = [int(axis) for axis in contracted[1].split(",") if axis] if contracted else []
    return 2 * math.prod(_sizes(dot.shape)) * math.prod(left[axis] for axis in axes)


def convolution_flops(computation: Computation, convolution: Instruction) -> int:
    """As which the TPU compiler writes matrix products: padding is not counted.

    For each spatial axis the (output, kernel) position pairs that meet an input element count, and not what
    falls on padding or between dilated elements: batched products are convolutions that are mostly padding.
    """
    inputs = _sizes(computation.operand(convolution, 0).shape)
    kernel = _sizes(computation.operand(convolution, 1).shape)
    output = _sizes(convolution.shape)
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", convolution.attributes).groups()
    windows = _windows(convolution.attributes)
    pairs = 1
    for axis, window in enumerate(windows):
        size_in, size_out = (
            sizes[label.index(str(axis))]
            for sizes, label in ((inputs, labels[0]), (output, labels[2]))
        )
        pairs *= _meeting(size_in, size_out, **window)
    batch, features = output[labels[2].index("b")], output[labels[2].index("f")]
    groups = re.search(r"batch_group_count=(\d+)", convolution.attributes)
    # The kernel's input features are already those of one feature group.
    summed = kernel[labels[1].index("i")] * (int(groups[1]) if groups else 1)
    return 2 * batch * features * summed * pairs


def collective_kind(computation: Computation, instruction: Instruction) -> str | None:
    """One of KINDS; what only continues or ends an asynchronous one counts as nothing.

    The TPU compiler writes a reduce-scatter as a computation of that name (all-reduce, then slice), and an
    asynchronous all-gather as the same instruction in each of the fusions that it runs beside.
    """
    kind = instruction.opcode.removesuffix("-start")
    if _CONTINUES.search(instruction.attributes):
        return None
    if kind == "all-reduce" and computation.name.startswith("all-reduce-scatter"):
        return "reduce-scatter"
    return kind if kind in KINDS else None


def sent_bytes(kind: str, computation: Computation, collective: Instruction, devices: int) -> int:
    """Bytes that each member of a group of g sends, at least: what a ring of them does (2004.09803's bounds).

    all-gather (g - 1) x its part, reduce-scatter and all-to-all (g - 1) / g of its whole, all-reduce twice
    that, collective-permute all that it has.
    """
    own = sum(map(size_in_bytes, computation.operand_shapes(collective)))
    group = group_size(collective.attributes, devices)
    if kind == "all-gather":
        return own * (group - 1)
    if kind == "collective-permute":
        return own
    return (2 if kind == "all-reduce" else 1) * own * (group - 1) // group


def group_size(attributes: str, devices: int) -> int:
    """Members of one group, from any of the three ways in which HLO writes `replica_groups`."""
    if listed := re.search(r"replica_groups=\{\{([\d,]+)\}", attributes):
        return listed[1].count(",") + 1
    if counted := re.search(r"replica_groups=\[\d+,(\d+)\]<=", attributes):
        return int(counted[1])
    if named := re.search(r"replica_groups=mesh\[([^\]]*)\].*?\{([^}]*)\}", attributes):
        sizes = dict(re.findall(r"'(\w+)'=(\d+)", named[1]))
        return math.prod(int(sizes[axis]) for axis in re.findall(r"'(\w+)'", named[2]))
    return devices


def _sizes(shape: str) -> tuple[int, ...]:
    return arrays(shape)[0][1]


def _windows(attributes: str) -> Iterator[dict[str, int]]:
    """Kernel size, stride, low padding and dilations of each spatial axis of a convolution."""
    window = re.search(r"window=\{([^}]*)\}", attributes)
    fields = dict(part.split("=") for part in window[1].split()) if window else {}
    sizes = [int(size) for size in fields["size"].split("x")] if fields else []

    def each(name: str, default: str) -> list[int]:
        words = fields[name].split("x") if name in fields else [default] * len(sizes)
        return [int(word.split("_")[0]) for word in words]

    options = zip(
        sizes, each("stride", "1"), each("pad", "0_0"), each("lhs_dilate", "1"),
        each("rhs_dilate", "1"), strict=True,
    )  # fmt: skip
    for size, stride, low, input_dilation, kernel_dilation in options:
        yield {
            "kernel": size,
            "stride": stride,
            "low": low,
            "input_dilation": input_dilation,
            "kernel_dilation": kernel_dilation,
        }


def _meeting(
    size_in: int,
    size_out: int,
    *,
    kernel: int,
    stride: int,
    low: int,
    input_dilation: int,
    kernel_dilation: int,
) -> int:
    """Pairs of output and kernel positions along one axis that meet an input element."""
    last = (size_in - 1) * input_dilation
    return sum(
        1
        for out in range(size_out)
        for tap in range(kernel)
        if 0 <= (at := out * stride + tap * kernel_dilation - low) <= last
        and at % input_dilation == 0
    )
