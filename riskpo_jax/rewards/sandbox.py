"""The sandbox of one program: bubblewrap's command line, and what it lets a program use.

A program sees an empty system: the interpreter, the system's libraries, four harmless devices, one
small folder to write in; no /proc, no network, no environment, no other process, no shell. What
bubblewrap cannot limit (memory of all processes together, files, time, output) `watchdog` and
`session` do from outside.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from riskpo_jax.errors import UserError
from riskpo_jax.rewards import seccomp
from riskpo_jax.rewards.runtime import GUEST_ROOT, Runtime

NOBODY = (
    65534  # user and group: of the sandbox, and of the processes around it where root starts them
)
WORK = "/box"  # the one folder that can be written in
_SYSTEM = ("/usr/lib", "/usr/lib64", "/lib", "/lib64")
_DEVICES = ("null", "zero", "random", "urandom")
_INSTALL = "install it (apt-get install bubblewrap)"


@dataclass(frozen=True)
class Limits:
    """Of one program with all its processes.

    `seconds` are of computing; twice as many may pass, so that a busy machine does not make a right
    program wrong.
    """

    seconds: float = 6.0
    memory_mb: int = 512
    processes: int = 32  # threads count
    open_files: int = 64
    disk_mb: int = 16
    files: int = 2000
    output_mb: int = 4  # of stdout, of stderr, and of one value returned

    @property
    def wall_seconds(self) -> float:
        return 2 * self.seconds

    def rlimits(self, sandboxed: bool) -> dict[str, int]:
        """What the kernel enforces in each process, by the name in Python's `resource`.

        Processes are counted by user: in a sandbox its own, without one all that the user has.
        """
        processes = {"RLIMIT_NPROC": self.processes} if sandboxed else {}
        return processes | {
            "RLIMIT_AS": self.memory_mb << 20,
            "RLIMIT_CPU": math.ceil(self.seconds) + 1,
            "RLIMIT_NOFILE": self.open_files,
            "RLIMIT_FSIZE": self.disk_mb << 20,
            "RLIMIT_MEMLOCK": 0,
            "RLIMIT_MSGQUEUE": 0,
            "RLIMIT_CORE": 0,
        }


@dataclass(frozen=True)
class Bubblewrap:
    """The program, and its version: from 0.7 on it can limit the size of a tmpfs."""

    path: str
    version: tuple[int, int]


def find_bubblewrap() -> Bubblewrap:
    """The bubblewrap of this machine.

    Raises:
      UserError: it is not installed, or this machine's architecture has no seccomp filter.
    """
    path = shutil.which("bwrap")
    if path is None:
        raise UserError(
            f"reward code runs what the model writes in bubblewrap, which is missing here: {_INSTALL}"
        )
    machine = os.uname().machine
    if machine not in seccomp.MACHINES:
        raise UserError(
            f"reward code: no seccomp filter for {machine}: grade on {' or '.join(seccomp.MACHINES)}"
        )
    text = subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
    numbers = re.search(r"(\d+)\.(\d+)", text)
    return Bubblewrap(path, (int(numbers[1]), int(numbers[2])) if numbers else (0, 0))


def wrapped(
    bubblewrap: Bubblewrap,
    runtime: Runtime,
    limits: Limits,
    seccomp_fd: int,
    info_fd: int,
    guest: Sequence[str],
) -> list[str]:
    """The command that runs `guest` (arguments of Python) in a sandbox of its own.

    The filter is read from `seccomp_fd`; JSON with the pid of the sandbox's init goes to `info_fd`.
    """
    nobody = str(NOBODY)
    return [
        bubblewrap.path,
        *("--unshare-all", "--unshare-user", "--die-with-parent", "--new-session"),
        *("--uid", nobody, "--gid", nobody, "--cap-drop", "ALL", "--hostname", "sandbox"),
        *("--clearenv", "--setenv", "LD_LIBRARY_PATH", f"{GUEST_ROOT}/lib"),
        *_system_arguments(),
        *_runtime_arguments(runtime),
        *_work_arguments(bubblewrap, limits),
        *("--remount-ro", "/", "--seccomp", str(seccomp_fd), "--info-fd", str(info_fd), "--"),
        f"{GUEST_ROOT}/{runtime.executable}",
        *guest,
    ]


def _system_arguments() -> list[str]:
    arguments = []
    for folder in map(Path, _SYSTEM):
        if folder.is_symlink():
            arguments += ["--symlink", os.readlink(folder), str(folder)]
        elif folder.is_dir():
            arguments += ["--ro-bind", str(folder), str(folder)]
    for extra in ("/etc/ld.so.cache", "/usr/share/zoneinfo"):
        arguments += ["--ro-bind-try", extra, extra]
    for device in _DEVICES:
        arguments += ["--dev-bind", f"/dev/{device}", f"/dev/{device}"]
    return arguments


def _runtime_arguments(runtime: Runtime) -> list[str]:
    arguments = []
    for part in runtime.parts:
        arguments += ["--ro-bind", str(runtime.root / part), f"{GUEST_ROOT}/{part}"]
    for folder in runtime.unused():
        cover = f"{GUEST_ROOT}/{folder}"
        arguments += ["--tmpfs", cover, "--remount-ro", cover]
    return arguments


def _work_arguments(bubblewrap: Bubblewrap, limits: Limits) -> list[str]:
    """A version that cannot limit the size gets no folder to write in at all."""
    size = ["--size", str(limits.disk_mb << 20)] if bubblewrap.version >= (0, 7) else []
    tmpfs = [*size, "--tmpfs", WORK] if size else ["--dir", WORK]
    return [*tmpfs, "--symlink", WORK, "/tmp", "--chdir", WORK]


@cache
def guest_source() -> str:
    """The text of `wire` and `sandbox_guest`, which the interpreter inside gets as an argument."""
    package = resources.files("riskpo_jax.rewards")
    wire, guest = (
        package.joinpath(name).read_text("utf-8") for name in ("wire.py", "sandbox_guest.py")
    )
    own = [line for line in guest.splitlines() if not line.startswith("from riskpo_jax")]
    return wire + "\n".join(own) + "\n"


def guest_arguments(
    limits: Limits, requests_fd: int, replies_fd: int, sandboxed: bool = True
) -> list[str]:
    """Python's arguments: isolated from environment and site-packages."""
    rlimits = json.dumps(limits.rlimits(sandboxed))
    options = ["-I", "-S", "-B", "-X", "utf8", "-c", guest_source()]
    return [*options, str(requests_fd), str(replies_fd), rlimits]
