"""JSON lines read back, up to where a kill cut them off."""

from __future__ import annotations

import json
import os
from pathlib import Path

from riskpo_jax.errors import UserError


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
