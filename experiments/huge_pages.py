"""Large arrays in huge pages, for programs that compute on a CPU.

XLA's CPU backend takes fresh memory for the arrays of each program it runs. In pages of 4 KiB, the kernel
spends a fourth of a training step on handing them out. glibc asks for 2 MiB pages when it is told to before
the process starts, so the process starts itself again, at once, with the variable set.
"""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path

_TUNABLES, _HUGE = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
_KERNEL = Path("/sys/kernel/mm/transparent_hugepage/enabled")


def restart_with_huge_pages() -> None:
    """Does nothing where it would not help, or where GLIBC_TUNABLES says something about huge pages."""
    before = os.environ.get(_TUNABLES, "")
    if "hugetlb" in before or not _helps():
        return
    tunables = ":".join(filter(None, (before, _HUGE)))
    os.execve(sys.executable, sys.orig_argv, os.environ | {_TUNABLES: tunables})


def _helps() -> bool:
    """With glibc 2.35 or newer, on a kernel that gives huge pages to whoever asks."""
    name, version = platform.libc_ver()
    if name != "glibc" or tuple(map(int, version.split(".")[:2])) < (2, 35):
        return False
    return _KERNEL.exists() and "[madvise]" in _KERNEL.read_text()
