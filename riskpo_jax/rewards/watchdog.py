"""Watches the sandboxes of this process from outside, and kills one that takes too much.

What the kernel's limits do not bound is summed over the whole tree of processes: memory, and files.
A process cannot leave its tree, since the sandbox's init inherits whatever loses its parent.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

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


@dataclass
class Watched:
    """One sandbox: the process at the top of its tree, its limits, its end."""

    pid: int
    memory_bytes: int
    processes: int
    files: int
    cpu_s: float
    folder: Callable[[], str | None]  # the writable folder as the host sees it
    kill: Callable[[str], None]  # takes the reason
    deadline: float = float("inf")  # on time.monotonic()


class Watchdog:
    """A thread that looks at every sandbox PERIOD_S after PERIOD_S."""

    def __init__(self) -> None:
        self._watched: dict[int, Watched] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._run, name="watchdog", daemon=True).start()

    def add(self, watched: Watched) -> None:
        with self._lock:
            self._watched[watched.pid] = watched

    def remove(self, watched: Watched) -> None:
        """After this returns, the watched process is not touched any more."""
        with self._lock:
            self._watched.pop(watched.pid, None)

    def _run(self) -> None:
        while True:
            time.sleep(PERIOD_S)
            with self._lock:
                for watched in self._watched.values():
                    if reason := violation(watched):
                        watched.kill(reason)


def violation(watched: Watched) -> str | None:
    """Which limit a sandbox exceeds, None if it keeps to all."""
    if time.monotonic() > watched.deadline:
        return "time"
    pids = tree(watched.pid)
    if len(pids) > watched.processes + 2:  # bubblewrap's own two
        return "processes"
    if cpu_seconds(pids) > watched.cpu_s:
        return "time"
    folder = watched.folder()
    disk, files = disk_use(folder) if folder else (0, 0)
    if files > watched.files:
        return "files"
    limit = watched.memory_bytes - disk
    if resident_bytes(pids) > limit and proportional_bytes(pids) > limit:
        return "memory"
    return None
