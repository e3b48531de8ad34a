"""Problems from JSON Lines files: one object a line with `id`, `problem` and `answer`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError

REQUIRED = ("id", "problem", "answer")


class JsonlSource:
    """The problems of one or more files, in the order of the files and of their lines, read once.

    `id`, `problem` and `answer` are text (numbers are taken as they are written), `level` is
    optional; every other field goes into `metadata` under its own name. Blank lines are skipped.
    `dataset` is the name of the problem's file without its ending.

    Raises UserError for a missing or empty file, and, naming file:line and the field, for a line
    that is no JSON object or lacks a required field.
    """

    def __init__(self, *paths: str | Path):
        self._problems = [problem for path in paths for problem in _read(Path(path))]

    def __len__(self) -> int:
        return len(self._problems)

    def __getitem__(self, index: int) -> Problem:
        return self._problems[index]


def _read(path: Path) -> list[Problem]:
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(
            f"cannot read the problems in {path} ({reason}): give a file with --data.path or "
            "--data.eval_path"
        ) from error
    problems = [
        _problem(line, f"{path}:{number}", path.stem)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not problems:
        raise UserError(f"{path} holds no problems: it needs one JSON object a line")
    return problems


def _problem(line: str, place: str, dataset: str) -> Problem:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not valid JSON: {error.msg} at column {error.colno}") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: a JSON object is needed, this is a {type(row).__name__}")
    required = {name: _text(row, name, place) for name in REQUIRED}
    level = row.get("level")
    return Problem(
        id=required["id"],
        text=required["problem"],
        answer=required["answer"],
        dataset=dataset,
        level="" if level is None else str(level),
        metadata={name: value for name, value in row.items() if name not in (*REQUIRED, "level")},
    )


def _text(row: dict[str, Any], name: str, place: str) -> str:
    if name not in row:
        raise UserError(f"{place}: the field {name!r} is missing")
    value = row[name]
    if isinstance(value, int | float) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise UserError(
            f"{place}: the field {name!r} must be a text, not empty; it is {value!r:.40}"
        )
    return value
