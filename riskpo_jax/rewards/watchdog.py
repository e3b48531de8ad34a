"""Watches sandboxes from outside, and kills one that takes too much.

What the kernel's limits do not bound is summed over the whole tree of processes: memory, computing time,
and files. A process cannot leave its tree, since the sandbox's init inherits whatever loses its parent.
The watchdog is a process of its own: a value that a program returned may keep the tests busy, and with
them every thread of their process.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import time
from dataclasses import asdict, dataclass
from typing import Any

PERIOD_S = 0.02
_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all its descendants."""
    pids = [pid]
    for parent in pids:  # grows while it is read
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{task}/children", "rb") as file:
                    pids += map(int, file.read().split())
    return pids


def resident_bytes(pids: list[int]) -> int:
    """Memory of processes; pages that several of them share count each time."""
    total = 0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError), open(f"/proc/{pid}/statm", "rb") as file:
            total += int(file.read().split()[1]) * _PAGE
    return total


def proportional_bytes(pids: list[int]) -> int:
    """Memory of processes; pages that n of them share count 1/n each. Slower than the above."""
    total = 0
    for pid in pids:
        try:
            with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
                line = next(line for line in file if line.startswith(b"Pss:"))
            total += int(line.split()[1]) << 10
        except (OSError, StopIteration):
            total += resident_bytes([pid])
    return total


def cpu_seconds(pids: list[int]) -> float:
    """Time that processes computed, and those of their children that are gone."""
    ticks = 0
    for pid in pids:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/stat", "rb") as file:
            ticks += sum(map(int, file.read().rpartition(b")")[2].split()[11:15]))
    return ticks / _TICKS


def disk_use(folder: str) -> tuple[int, int]:
    """Bytes and files of the file system at `folder`; zeros when it cannot be seen."""
    try:
        status = os.statvfs(folder)
    except OSError:
        return 0, 0
    used = (status.f_blocks - status.f_bfree) * status.f_frsize
    return used, status.f_files - status.f_ffree


@dataclass(frozen=True)
class Watched:
    """One sandbox: the process at the top of its tree, and its limits.

    `inside` is its init, 0 without one; `folder` the writable folder as init sees it; `deadline` is on
    time.monotonic(), the same clock in every process.
    """

    pid: int
    memory_bytes: int
    processes: int
    files: int
    cpu_s: float
    deadline: float
    inside: int = 0
    folder: str = ""


class Watchdog:
    """A child process that looks at every sandbox PERIOD_S after PERIOD_S, and dies with this one.

    To be made while this process has one thread only.
    """

    def __init__(self) -> None:
        commands, self._commands = os.pipe()
        self._reasons, reasons = os.pipe()
        self._count = 0
        self.pid = os.fork()
        if self.pid == 0:
            try:
                os.close(self._commands)  # else it would never see the end
                _watch(commands, reasons)
            finally:
                os._exit(1)
        os.close(commands)
        os.close(reasons)

    def add(self, watched: Watched) -> None:
        """From now on, in place of what was said about the same process before."""
        self._say("add", asdict(watched))

    def remove(self, pid: int) -> str:
        """The process is not touched any more. Why its sandbox was killed, "" if it was not.

        A signal handler may end this call by an exception: the number tells a late answer from ours.
        """
        self._count += 1
        ours = str(self._count)
        self._say("remove", [pid, ours])
        while True:
            number, _, reason = _line(self._reasons).partition(" ")
            if number == ours:
                return reason

    def _say(self, *command: Any) -> None:
        os.write(self._commands, json.dumps(command).encode() + b"\n")


def _line(descriptor: int) -> str:
    """One line of text, read byte by byte. Raises BrokenPipeError at the end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(descriptor, 1)
        if not byte:
            raise BrokenPipeError("the other side ended")
        line += byte
    return line[:-1].decode()


def _watch(commands: int, reasons: int) -> None:
    """The life of the watchdog's process."""
    kennel: dict[int, _Prey] = {}
    while True:
        while select.select([commands], [], [], PERIOD_S)[0]:
            word, content = json.loads(_line(commands))
            if word == "add":
                prey = _Prey(Watched(**content))
                if earlier := kennel.get(prey.watched.pid):
                    prey.reason = earlier.reason
                    earlier.close()
                kennel[prey.watched.pid] = prey
            else:
                pid, number = content
                prey = kennel.pop(pid, None)
                os.write(reasons, f"{number} {prey.reason if prey else ''}\n".encode())
                if prey:
                    prey.close()
        for prey in kennel.values():
            prey.look()


class _Prey:
    """Holds on to processes by descriptors, which never mean another process of the same number."""

    def __init__(self, watched: Watched):
        self.watched, self.reason = watched, ""
        self._descriptors = []
        for pid in filter(None, (watched.inside, watched.pid)):
            with contextlib.suppress(OSError):
                self._descriptors.append(os.pidfd_open(pid))

    def look(self) -> None:
        try:
            reason = violation(self.watched)
        except Exception as error:  # noqa: BLE001 - what cannot be watched must not go on
            reason = f"watchdog: {error}"
        if reason:
            self.reason = self.reason or reason
            self._kill()

    def _kill(self) -> None:
        """The death of its init takes a sandbox along; without one there is only the tree."""
        if not self.watched.inside:
            for pid in reversed(tree(self.watched.pid)[1:]):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGKILL)
        for descriptor in self._descriptors:
            with contextlib.suppress(OSError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)

    def close(self) -> None:
        for descriptor in self._descriptors:
            os.close(descriptor)


def violation(watched: Watched) -> str | None:
    """Which limit a sandbox exceeds, None if it keeps to all."""
    if time.monotonic() > watched.deadline:
        return "time"
    pids = tree(watched.pid)
    if len(pids) > watched.processes + 2:  # bubblewrap's own two
        return "processes"
    if cpu_seconds(pids) > watched.cpu_s:
        return "time"
    disk, files = disk_use(f"/proc/{watched.inside}/root{watched.folder}")
    if files > watched.files:
        return "files"
    limit = watched.memory_bytes - disk
    if resident_bytes(pids) > limit and proportional_bytes(pids) > limit:
        return "memory"
    return None
