"""How often each computation of a program runs.

`Compiled.cost_analysis` counts the body of a loop once, and a scanned model is all loops. The program says
how often a loop turns, so that whatever an instruction costs can be multiplied by the times it runs.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from launch.hlo import Computation, Instruction, Module

_KNOWN_TRIPS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')
_INDEX = re.compile(r"index=(\d+)")
_SAME = ("copy", "bitcast", "convert")


def executions(module: Module, turns_untold: int = 1) -> tuple[Counter[str], list[str]]:
    """How often each computation runs in one run of the program.

    Every branch of a conditional counts as taken, and a loop that data may end early turns as often as it
    can.

    Args:
      turns_untold: of a loop whose length the program does not tell, such as one that is an argument.

    Returns:
      counts by the computation's name, and the names of the loops that `turns_untold` was taken for.
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
                turns = turns_untold if known is None else known
            for _, callee in instruction.callees():
                visit(callee, times * turns)

    visit(module.entry, 1)
    return counts, unknown


def trip_count(module: Module, computation: Computation, loop: Instruction) -> int | None:
    """How often a `while` of `computation` turns: at most, where its condition has several parts.

    XLA says so itself on CPU and GPU. Elsewhere the condition does: it compares a counter, which the body
    raises by a constant, with a constant. JAX's loops raise it by one, and XLA's own, in which it computes
    with parts of an array while others arrive, by as many as they take in a turn.
    """
    if known := _KNOWN_TRIPS.search(loop.attributes):
        return int(known[1])
    condition, body = (module.computations[dict(loop.callees())[x]] for x in ("condition", "body"))
    first_turn = _FirstTurn(module, condition, body, computation, computation.operand(loop, 0))
    return min(first_turn.turns_left(condition, condition.root), default=None)


@dataclass(frozen=True)
class _FirstTurn:
    """A loop's condition before the first turn. initial: the loop's operand, of `outside`."""

    module: Module
    condition: Computation
    body: Computation
    outside: Computation
    initial: Instruction

    def turns_left(
        self, where: Computation, name: str, arguments: tuple[str, ...] = ()
    ) -> Iterator[int]:
        """What each comparison of a conjunction leaves; arguments: those of a fusion, from the condition."""
        instruction = where.instructions[name]
        if instruction.opcode == "and" or instruction.opcode in _SAME:
            for operand in instruction.operands:
                yield from self.turns_left(where, operand, arguments)
        elif instruction.opcode == "fusion":
            fused = self.module.computations[dict(instruction.callees())["calls"]]
            yield from self.turns_left(fused, fused.root, instruction.operands)
        elif instruction.opcode == "compare":
            low, high = (self.value(where, x, arguments) for x in instruction.operands)
            if "direction=GT" in instruction.attributes:
                low, high = high, low
            elif "direction=LT" not in instruction.attributes:
                return
            if low is not None and high is not None:
                yield max(-(-(high - low) // self.step(where, instruction, arguments)), 0)

    def step(self, where: Computation, compare: Instruction, arguments: tuple[str, ...]) -> int:
        """What a turn adds to the counter that is compared; 1 where the body does not tell."""
        root = self.body.instructions[self.body.root]
        for name in compare.operands:
            for index in self.carried(where, name, arguments):
                raised = self.body.operand(root, index)
                while raised.opcode in _SAME:
                    raised = self.body.operand(raised, 0)
                if raised.opcode == "add":
                    added = [self.value(self.body, operand) for operand in raised.operands]
                    return next((number for number in added if number), 1)
        return 1

    def carried(
        self, where: Computation, name: str, arguments: tuple[str, ...] = ()
    ) -> Iterator[int]:
        """The places, among all that the loop carries, of what an instruction of the condition is made of."""
        instruction = where.instructions[name]
        if instruction.opcode == "add" or instruction.opcode in _SAME:
            for operand in instruction.operands:
                yield from self.carried(where, operand, arguments)
        elif instruction.opcode == "parameter" and arguments:
            yield from self.carried(self.condition, arguments[int(instruction.arguments)])
        elif instruction.opcode == "get-tuple-element" and where is self.condition:
            yield int(_INDEX.search(instruction.attributes)[1])

    def value(self, where: Computation, name: str, arguments: tuple[str, ...] = ()) -> int | None:
        """The integer that an instruction is, if the program tells."""
        instruction = where.instructions[name]
        if instruction.opcode in _SAME:
            return self.value(where, instruction.operands[0], arguments)
        if instruction.opcode == "constant":
            return int(instruction.arguments) if instruction.arguments.isdigit() else None
        if instruction.opcode == "add":
            terms = [self.value(where, operand, arguments) for operand in instruction.operands]
            return None if None in terms else sum(terms)
        if instruction.opcode == "parameter" and arguments:
            return self.value(self.condition, arguments[int(instruction.arguments)])
        carried = instruction.opcode == "get-tuple-element" and where is self.condition
        if carried and self.initial.opcode == "tuple":
            index = int(_INDEX.search(instruction.attributes)[1])
            return self.value(self.outside, self.initial.operands[index])
        return None
