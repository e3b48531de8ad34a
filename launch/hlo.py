"""Optimized HLO text as data: computations, their instructions, and how often each of them runs.

`Compiled.cost_analysis` counts the body of a loop once, and a scanned model is all loops. The text says how
often a loop turns, so that whatever an instruction costs can be multiplied by the times it runs.
The grammar: https://openxla.org/xla/operation_semantics, and `HloInstruction::ToString`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_BYTES = {"pred": 1, "token": 0, "opaque": 0}  # of types whose name does not end in its width
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
_KNOWN_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
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
    for line in text.splitlines():
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
    sizes = [re.search(rf"\b{what}=(\d+)", text[: text.find("\n")]) for what in _DEVICE_COUNTS]
    return Module(computations, entry, math.prod(int(size[1]) for size in sizes if size))


_DEVICE_COUNTS = ("num_partitions", "replica_count")


def arrays(shape: str) -> list[tuple[str, tuple[int, ...]]]:
    """(type, sizes) of every array in a shape: `(f32[2,3], s32[])` -> [("f32", (2, 3)), ("s32", ())]."""
    return [
        (kind, tuple(int(size.lstrip("<=")) for size in sizes.split(",") if size))
        for kind, sizes in _ARRAY.findall(shape)
    ]


def size_in_bytes(shape: str) -> int:
    """Bytes of all arrays in a shape, without padding."""
    return sum(math.prod(sizes) * _width(kind) // 8 for kind, sizes in arrays(shape))


def executions(module: Module) -> tuple[Counter[str], list[str]]:
    """How often each computation runs in one run of the program.

    Every branch of a conditional counts as taken, and a loop that data may end early turns as often as it
    can.

    Returns:
      counts by the computation's name, and the names of loops whose length the text does not tell; they
      are counted as one turn.
    """
    counts, unknown = Counter(), []

    def visit(name: str, times: int) -> None:
        counts[name] += times
        computation = module.computations[name]
        for instruction in computation.instructions.values():
            turns = 1
            if instruction.opcode == "while":
                known = trip_count(module, computation, instruction)
                unknown.extend([] if known is not None else [instruction.name])
                turns = 1 if known is None else known
            for _, callee in instruction.callees():
                visit(callee, times * turns)

    visit(module.entry, 1)
    return counts, unknown


def trip_count(module: Module, computation: Computation, loop: Instruction) -> int | None:
    """How often a `while` of `computation` turns: at most, where its condition has several parts.

    XLA says so itself on CPU and GPU. Elsewhere the condition does: it compares a counter, which JAX's
    loops raise by one a turn, with a constant.
    """
    if known := _KNOWN_TRIPS.search(loop.attributes):
        return int(known[1])
    condition = module.computations[dict(loop.callees())["condition"]]
    initial = computation.operand(loop, 0)

    def value(where: Computation, name: str, arguments: tuple[str, ...]) -> int | None:
        """The integer that an instruction of the condition is before the first turn, if it is known."""
        while (instruction := where.instructions[name]).opcode in ("copy", "bitcast", "convert"):
            name = instruction.operands[0]
        if instruction.opcode == "constant":
            return int(instruction.arguments) if instruction.arguments.isdigit() else None
        if instruction.opcode == "add":
            terms = [value(where, operand, arguments) for operand in instruction.operands]
            return None if None in terms else sum(terms)
        if instruction.opcode == "parameter" and arguments:
            return value(condition, arguments[int(instruction.arguments)], ())
        if instruction.opcode == "get-tuple-element" and where is condition:
            index = int(re.search(r"index=(\d+)", instruction.attributes)[1])
            if initial.opcode == "tuple":
                return value(computation, initial.operands[index], ())
        return None

    def bounds(where: Computation, name: str, arguments: tuple[str, ...]) -> Iterator[int]:
        instruction = where.instructions[name]
        if instruction.opcode in ("and", "copy", "bitcast"):
            for operand in instruction.operands:
                yield from bounds(where, operand, arguments)
        elif instruction.opcode == "fusion":
            callee = module.computations[dict(instruction.callees())["calls"]]
            yield from bounds(callee, callee.root, instruction.operands)
        elif instruction.opcode == "compare":
            first, last = (value(where, x, arguments) for x in instruction.operands)
            if "direction=GT" in instruction.attributes:
                first, last = last, first
            elif "direction=LT" not in instruction.attributes:
                return
            if first is not None and last is not None:
                yield max(last - first, 0)

    return min(bounds(condition, condition.root, ()), default=None)


def _split_at_closing_parenthesis(text: str) -> tuple[str, str]:
    depth = 1
    for found in re.finditer(r"[()]", text):
        depth += 1 if found[0] == "(" else -1
        if not depth:
            return text[: found.start()], text[found.end() :]
    return text, ""


def _width(kind: str) -> int:
    """Bits of an element: of bf16 16, of f8e4m3fn 8, of s4 4, of c64 64."""
    digits = re.match(r"[a-z]+(\d+)", kind)
    return 8 * _BYTES.get(kind, 0) if digits is None else int(digits[1])
