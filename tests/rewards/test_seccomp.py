"""The filter, run by an interpreter of its own, says no to what it should and yes to the rest."""

import errno
import re
import struct
from pathlib import Path

import pytest

from riskpo_jax.rewards import seccomp

ALLOW, KILL = 0x7FFF0000, 0x80000000
REFUSED, MISSING = 0x00050000 | errno.EPERM, 0x00050000 | errno.ENOSYS
NAMESPACES = [0x10000000, 0x00020000, 0x40000000, 0x20000000, 0x08000000, 0x04000000, 0x80]
THREAD = 0x3D0F00  # what glibc passes to clone for a thread
FORK = 0x01200011

# name: numbers on x86-64 and arm64, of what Python programs need
NEEDED = {
    "read": (0, 63),
    "write": (1, 64),
    "openat": (257, 56),
    "mmap": (9, 222),
    "mprotect": (10, 226),
    "munmap": (11, 215),
    "execve": (59, 221),
    "exit_group": (231, 94),
    "futex": (202, 98),
    "prlimit64": (302, 261),
    "getrandom": (318, 278),
    "pipe2": (293, 59),
    "wait4": (61, 260),
    "kill": (62, 129),
    "clock_nanosleep": (230, 115),
    "rt_sigaction": (13, 134),
}


def run(machine, number, first=0, second=0, audit=None):
    """Classic BPF on struct seccomp_data: int nr, u32 arch, u64 instruction pointer, u64 args[6]."""
    audit = seccomp.MACHINES[machine][0] if audit is None else audit
    data = struct.pack("=iIQ6Q", number, audit, 0, first, second, 0, 0, 0, 0)
    program = list(struct.iter_unpack("=HBBI", seccomp.build(machine)))
    accumulator = position = 0
    while True:
        code, if_true, if_false, value = program[position]
        position += 1
        match code:
            case 0x20:
                accumulator = struct.unpack_from("=I", data, value)[0]
            case 0x15:
                position += if_true if accumulator == value else if_false
            case 0x35:
                position += if_true if accumulator >= value else if_false
            case 0x45:
                position += if_true if accumulator & value else if_false
            case 0x06:
                return value
            case _:
                raise AssertionError(f"unknown instruction {code:#x}")


@pytest.fixture(params=seccomp.MACHINES)
def machine(request):
    return request.param


def number_of(pair, machine):
    return pair[seccomp.MACHINES[machine][1]]


@pytest.mark.parametrize("name", seccomp.DENIED)
def test_denied_calls_are_refused(machine, name):
    number = number_of(seccomp.DENIED[name], machine)
    if number is None:
        pytest.skip(f"{machine} has no {name}")
    assert run(machine, number) == REFUSED


@pytest.mark.parametrize("name", NEEDED)
def test_needed_calls_are_allowed(machine, name):
    assert run(machine, number_of(NEEDED[name], machine)) == ALLOW


def test_clone_makes_threads_and_processes_but_no_namespaces(machine):
    clone, clone3 = number_of((56, 220), machine), 435
    assert run(machine, clone, THREAD) == run(machine, clone, FORK) == ALLOW
    assert all(run(machine, clone, flag | 17) == REFUSED for flag in NAMESPACES)
    assert run(machine, clone3) == MISSING  # glibc falls back to clone


def test_sockets_are_unix_sockets(machine):
    for pair in ((41, 198), (53, 199)):
        number = number_of(pair, machine)
        assert run(machine, number, 1, 1) == ALLOW
        assert all(run(machine, number, family, 1) == REFUSED for family in (2, 10, 16, 17, 38, 40))


def test_terminals_take_no_input_from_programs(machine):
    number = number_of((16, 29), machine)
    assert run(machine, number, 0, 0x5401) == ALLOW  # is it a terminal?
    assert run(machine, number, 0, 0x5412) == run(machine, number, 0, 0x541C) == REFUSED
    assert run(machine, number, 0, 0x5412 | 1 << 32) == REFUSED  # the kernel sees the low word only


def test_other_tables_of_calls_are_no_way_round():
    assert run("x86_64", 101, audit=0x40000003) == KILL  # int 0x80: i386
    assert run("x86_64", 0x40000000 | 101) == MISSING  # x32


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_numbers_are_the_kernels(machine, header):
    if not Path(header).exists():
        pytest.skip(f"no {header}: apt-get install linux-libc-dev")
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text())
    numbers = {name: int(number) for name, number in defined}
    known = {n for n in seccomp.DENIED if n in numbers and number_of(seccomp.DENIED[n], machine)}
    assert len(known) > 40
    for name in known:
        assert number_of(seccomp.DENIED[name], machine) == numbers[name], name
    for name in NEEDED:
        assert number_of(NEEDED[name], machine) == numbers.get(
            name, number_of(NEEDED[name], machine)
        )
