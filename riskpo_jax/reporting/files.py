"""Files that a kill cannot leave half-written, and JSON lines read back."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from riskpo_jax.errors import UserError


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


def read_jsonl(path: str | os.PathLike) -> list[dict]:
    """The objects of a JSON-lines file; a last line without its newline (a kill) is left out.

    Raises:
      UserError: a finished line is not a JSON object (names file and line).
    """
    lines = Path(path).read_bytes().split(b"\n")[:-1]
    return [_parsed(line, path, number) for number, line in enumerate(lines, start=1)]


def _parsed(line: bytes, path: str | os.PathLike, number: int) -> dict:
    try:
        row = json.loads(line)
    except ValueError:
        row = None
    if not isinstance(row, dict):
        raise UserError(f"{path}:{number}: not a JSON object; repair or delete the line")
    return row
