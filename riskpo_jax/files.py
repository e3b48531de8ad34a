"""Files and folders that a kill cannot leave half-written: made beside their place, then renamed."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote


@contextlib.contextmanager
def replacing(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a path beside `path`; renames it to `path` on success, removes it on failure."""
    path = Path(path)
    aside = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


@contextlib.contextmanager
def replacing_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Yields an empty folder beside `path`, which takes its place on success and goes on failure.

    The old folder goes with everything in it. A link stays, and what it points to is replaced. Two
    renames cannot be one: a kill between them leaves the old folder as `.NAME.old` beside the new
    `.NAME.tmp`; the next call clears both away. For one writer at a time. Raises OSError before anything
    is yielded for a place where no folder can be made or renamed.
    """
    path = Path(path).resolve()
    if path.exists() and not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if path.is_mount():
        raise OSError(errno.EBUSY, "A mount point, which cannot be renamed", str(path))
    aside, old = (path.with_name(f".{path.name}.{end}") for end in ("tmp", "old"))
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    try:
        yield aside
        shutil.rmtree(old, ignore_errors=True)
        with contextlib.suppress(FileNotFoundError):
            os.rename(path, old)
        os.rename(aside, path)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def file_stem(name: str) -> str:
    """`name` as a file can be called, whatever it holds; names that differ give stems that differ."""
    return quote(name, safe=" @+=,")
