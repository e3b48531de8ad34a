"""Optimized HLO text as data: computations and their instructions.

What the operations mean: https://openxla.org/xla/operation_semantics; how they are written:
`HloInstruction::ToString` in XLA.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass

_BITS = {"pred": 8, "token": 0, "opaque": 0}  # of types whose name does not hold its width
_TUPLE = r"\((?:[^()]|\((?:[^()]|\([^()]*\))*\))*\)"
_INSTRUCTION = re.compile(
    rf"\s*(ROOT )?%([\w.\-]+) = ({_TUPLE}|\S+) ([\w\-]+)\((.*)"  # root, name, shape, opcode, the rest
)
_HEADER = re.compile(r"(ENTRY )?%([\w.\-]+) \(.*\{$")
_ARRAY = re.compile(r"([a-z]\w*)\[([\d,<=]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLEES = re.compile(
    r"(calls|body|condition|to_apply|true_computation|false_computation|branch_computations)="
    r"(?:%([\w.\-]+)|\{([^}]*)\})"
)
_DEVICES = re.compile(r"\b(?:num_partitions|replica_count)=(\d+)")
_CONTINUED = re.compile(r'\n(?="|\}\})')  # the metadata of a kernel is written over several lines
_LAYOUT, _COMMENT = re.compile(r"(?<=\])\{[^{}]*\}"), re.compile(r"/\*.*?\*/")


@dataclass(frozen=True)
class Instruction:
    """`name = shape opcode(operands), attributes`; shape and attributes stay text, without layouts."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    arguments: str
    attributes: str

    def callees(self) -> Iterator[tuple[str, str]]:
        """(role, computation) of each that runs as a part of this one, not once for every element."""
        for role, one, several in _CALLEES.findall(self.attributes):
            if role != "to_apply" or self.opcode == "call":
                yield from ((role, name) for name in ([one] if one else _NAME.findall(several)))


@dataclass(frozen=True)
class Computation:
    name: str
    instructions: dict[str, Instruction]
    root: str

    def operand(self, instruction: Instruction, index: int) -> Instruction:
        return self.instructions[instruction.operands[index]]

    def operand_shapes(self, instruction: Instruction) -> list[str]:
        return [self.instructions[name].shape for name in instruction.operands]


@dataclass(frozen=True)
class Module:
    """A compiled program. devices: how many run it together."""

    computations: dict[str, Computation]
    entry: str
    devices: int


def parse(text: str) -> Module:
    """The program that `Compiled.as_text()` describes."""
    computations, entry, name, instructions, root = {}, "", None, {}, ""
    for line in _CONTINUED.sub("", text).splitlines():
        if name is None:
            if header := _HEADER.match(line):
                name, instructions, root = header[2], {}, ""
                entry = name if header[1] else entry
        elif line.startswith("}"):
            computations[name] = Computation(name, instructions, root)
            name = None
        elif found := _INSTRUCTION.match(_COMMENT.sub("", _LAYOUT.sub("", line))):
            arguments, attributes = _split_at_closing_parenthesis(found[5])
            operands = tuple(_NAME.findall(arguments))
            instructions[found[2]] = Instruction(
                found[2], found[3], found[4], operands, arguments, attributes
            )
            root = found[2] if found[1] else root
    devices = math.prod(map(int, _DEVICES.findall(text[: text.find("\n")])))
    return Module(computations, entry, devices)


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """(type, sizes) of every array in a shape: `(f32[2,3], s32[])` -> [("f32", (2, 3)), ("s32", ())]."""
    return [
        (kind, tuple(int(size.lstrip("<=")) for size in sizes.split(",") if size))
        for kind, sizes in _ARRAY.findall(shape)
    ]


def size_in_bytes(shape: str) -> int:
    """Bytes of all arrays in a shape, without padding."""
    return sum(math.prod(sizes) * _width(kind) // 8 for kind, sizes in arrays(shape))


def _split_at_closing_parenthesis(text: str) -> tuple[str, str]:
    depth = 1
    for found in re.finditer(r"[()]", text):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return text[: found.start()], text[found.end() :]
    return text, ""


def _width(kind: str) -> int:
    """Bits of an element: of bf16 16, of f8e4m3fn 8, of s4 4, of c64 64."""
    return _BITS[kind] if kind in _BITS else int(re.match(r"[a-z]+(\d+)", kind)[1])
