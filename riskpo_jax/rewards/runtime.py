"""The Python that runs inside the sandbox: the interpreter and its standard library, nothing else."""

from __future__ import annotations

import atexit
import contextlib
import os
import shutil
import stat
import sys
import sysconfig
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

GUEST_ROOT = "/python"
UNUSED = (
    "site-packages",
    "dist-packages",
)  # folders of the standard library that programs do not see
_PREFIX = "riskpo-python-"
_NOT_COPIED = (*UNUSED, "test", "idlelib", "tkinter", "turtledemo", "ensurepip", "config-*", "*.a")
# What an interpreter that lies outside the system's folders brings along for its modules.
_LIBRARIES = "python3 ssl crypto ffi z bz2 lzma expat mpdec sqlite3 uuid zstd".split()


@dataclass(frozen=True)
class Runtime:
    """`parts` lie below `root` and appear below GUEST_ROOT at the same relative paths."""

    root: Path
    executable: str
    parts: tuple[str, ...]

    @property
    def python(self) -> str:
        """The interpreter's path on the host."""
        return str(self.root / self.executable)

    def unused(self) -> list[str]:
        """Relative paths of folders to cover with empty ones."""
        folders = [Path(part) / name for part in self.parts for name in UNUSED]
        return [str(folder) for folder in folders if (self.root / folder).is_dir()]


@cache
def find_runtime(anyone: bool) -> Runtime:
    """This interpreter's own installation, not that of a virtual environment.

    `anyone`: it must be readable by every user of the machine; one that is not, such as one in
    /root, is copied into a temporary folder, which goes at the end of the process.
    """
    prefix = Path(sys.base_prefix).resolve()
    executable = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
    stdlib = Path(sysconfig.get_path("stdlib")).resolve()
    libraries = [
        library
        for name in _LIBRARIES
        for library in (prefix / "lib").glob(f"lib{name}*.so*")
        if prefix != Path("/usr")
    ]
    parts = tuple(str(path.relative_to(prefix)) for path in [executable, stdlib, *libraries])
    runtime = Runtime(prefix, parts[0], parts)
    readable = not anyone or all(_anyone_reads(prefix / part) for part in parts)
    return runtime if readable else _copied(runtime)


def _anyone_reads(path: Path) -> bool:
    enter = all(parent.stat().st_mode & stat.S_IXOTH for parent in path.parents)
    return enter and bool(path.stat().st_mode & stat.S_IROTH)


def _copied(runtime: Runtime) -> Runtime:
    _remove_leftovers()
    root = Path(tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    for part in runtime.parts:
        source, target = runtime.root / part, root / part
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            ignore = shutil.ignore_patterns(*_NOT_COPIED)
            shutil.copytree(source, target, ignore=ignore, dirs_exist_ok=True, copy_function=_place)
        else:
            _place(source, target)
    for folder, _, _ in os.walk(root):
        os.chmod(folder, 0o755)
    return Runtime(root, runtime.executable, runtime.parts)


def _place(source: str | Path, target: str | Path) -> None:
    """A second name where that does, else a copy that everyone may read."""
    mode = os.stat(source).st_mode
    with contextlib.suppress(OSError):
        if mode & stat.S_IROTH:
            os.link(os.path.realpath(source), target)
            return
    shutil.copyfile(source, target)
    os.chmod(target, 0o755 if mode & stat.S_IXUSR else 0o644)


def _remove_leftovers() -> None:
    """What processes left that were killed: the folders' names tell whose they are."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        pid = folder.name.removeprefix(_PREFIX).partition("-")[0]
        with contextlib.suppress(OSError):
            if folder.stat().st_uid == os.getuid() and not Path(f"/proc/{pid}").exists():
                shutil.rmtree(folder, ignore_errors=True)
