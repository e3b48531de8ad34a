"""What the compiler says of a program: the memory it takes on each chip, and what it costs."""

from __future__ import annotations

import re
from dataclasses import dataclass

import jax

from launch import hlo
from launch.costs import Costs, costs
from launch.programs import Program, bytes_a_chip

GIB = 2**30
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}
# Both of libtpu's messages: when the least that temporaries can take is too much, and after placing them.
_NEEDED = (
    re.compile(r"required for HLO temporaries \(([\d.]+)([KMGT]?)\) exceeds available HBM"),
    re.compile(r"Used ([\d.]+)([KMGT]?) of [\d.]+[KMGT]? hbm"),
)


@dataclass(frozen=True)
class Memory:
    """Bytes on each chip.

    outputs: those that do not take the place of arguments. temporaries: with the program's own code.
    beside: of arrays that the program does not use.
    """

    arguments: int
    outputs: int
    temporaries: int
    beside: int

    @property
    def total(self) -> int:
        return self.arguments + self.outputs + self.temporaries + self.beside


@dataclass(frozen=True)
class Measured:
    """calls: a step's. costs: of all of them; None of a program that has no room, whose memory is the least
    that it would take.
    """

    memory: Memory
    calls: int
    costs: Costs | None


def measure(program: Program, capacity: float) -> Measured:
    """Compiles the program for the devices that its arguments lie on, which have `capacity` bytes each.

    It is not compiled if its arguments have no room.

    Raises:
      jax.errors.JaxRuntimeError: it does not compile for another reason than memory.
    """
    arguments, beside = bytes_a_chip(program.arguments), bytes_a_chip(program.beside)
    if arguments + beside > capacity:
        return Measured(Memory(arguments, 0, 0, beside), program.calls, None)
    lowered = program.function.lower(*program.arguments, **program.options)
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        needed = needed_bytes(str(error))
        if needed is None:
            raise
        return Measured(Memory(arguments, 0, needed, beside), program.calls, None)
    stats = compiled.memory_analysis()
    memory = Memory(
        arguments=stats.argument_size_in_bytes,
        outputs=stats.output_size_in_bytes - stats.alias_size_in_bytes,
        temporaries=stats.temp_size_in_bytes + stats.generated_code_size_in_bytes,
        beside=beside,
    )
    one_call = costs(hlo.parse(compiled.as_text()), program.turns)
    return Measured(memory, program.calls, one_call.times(program.calls))


def needed_bytes(message: str) -> int | None:
    """The bytes that a program needs on each chip, by the compiler's message that it has not as many."""
    for pattern in _NEEDED:
        if found := pattern.search(message):
            return int(float(found[1]) * _UNITS[found[2]])
    return None
