"""Problems from JSON Lines files: one object a line with `id`, `problem` and `answer`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.rows import problem_of, read_rows


class JsonlSource:
    """The problems of one or more files, in the order of the files and of their lines, read once.

    `id`, `problem` and `answer` are text (numbers are taken as they are written), `level` is
    optional; every other field goes into `metadata` under its own name. Blank lines are skipped.
    `dataset` is the name of the problem's file without its ending. `columns` says which of these
    fields have another name in the files; with it, rows need no id and are counted.

    Raises UserError for a missing or empty file, and, naming file:line and the field, for a line
    that is no JSON object or lacks a required field.
    """

    def __init__(self, *paths: str | Path, columns: Mapping[str, str] | None = None):
        self._problems = [problem for p in paths for problem in _read(Path(p), columns or {})]

    def __len__(self) -> int:
        return len(self._problems)

    def __getitem__(self, index: int) -> Problem:
        return self._problems[index]


def _read(path: Path, columns: Mapping[str, str]) -> list[Problem]:
    rows = read_rows(path, "name another file")
    return [
        problem_of(row, place, path.stem, columns, f"{path.stem}-{i}" if columns else "")
        for i, (place, row) in enumerate(rows)
    ]
