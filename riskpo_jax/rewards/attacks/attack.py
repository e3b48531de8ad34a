"""What an attack is."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Any

TESTS = "assert f(7) == 49"
SECRET_TESTS = "assert f(7) == 730914862"  # nobody computes that: it would have to be found


@dataclass(frozen=True)
class Attack:
    """A program that tries to be graded correct without being so, or to harm what grades it.

    It defines f, which `tests` call, and gives the right answer if and only if its attack worked: then
    "correct" would mean a hole. Words in capitals between @ signs stand for things of the machine that
    `attacks.scene` sets up as bait. `ends` are the reasons of a verdict that show that the attack was
    met as intended. What `works_unguarded` does succeed without a sandbox, which shows that it is the
    sandbox that stops it.
    """

    name: str
    program: str
    ends: tuple[str, ...]
    tests: str = TESTS
    works_unguarded: bool = False


def attack(name: str, program: str, ends: str = "AssertionError", **more: Any) -> Attack:
    """An indented program, and the reasons separated by spaces."""
    return Attack(name, textwrap.dedent(program).lstrip(), tuple(ends.split()), **more)
