"""Rows of other people's files: JSON objects with their place, and the fields of a problem in them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError

Row = dict[str, Any]
FIELDS = ("id", "problem", "answer", "level")
TESTS = ("test_list", "test", "tests")  # what stands for the answer of a programming task


def read_rows(path: Path, remedy: str) -> list[tuple[str, Row]]:
    """("file:line", row) of every line of a JSON Lines file that is not blank.

    Raises UserError for a file that cannot be read (with the `remedy`) or is empty, and, naming
    file:line, for a line that is no JSON object.
    """
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise UserError(f"cannot read the problems in {path} ({reason}): {remedy}") from error
    rows = [
        (place := f"{path}:{number}", _parse(line, place))
        for number, line in enumerate(lines, start=1)
        if line.strip()
    ]
    if not rows:
        raise UserError(f"{path} holds no problems: it needs one JSON object a line")
    return rows


def parse_columns(columns: Sequence[str]) -> dict[str, str]:
    """Our name of a field -> the column's, from "problem=question" and the like.

    Raises UserError for what is not such a pair, or no field of ours.
    """
    names = {}
    for text in columns:
        ours, equals, theirs = text.partition("=")
        if not equals or not theirs or ours not in FIELDS or ours in names:
            raise UserError(
                f"--data.columns: {text!r} must be FIELD=COLUMN, each FIELD once and one of "
                f"{', '.join(FIELDS)}"
            )
        names[ours] = theirs
    return names


def problem_of(
    row: Row, place: str, dataset: str, columns: Mapping[str, str], unnamed: str = ""
) -> Problem:
    """The problem in a row whose columns have our names but for those in `columns`.

    unnamed: the id of a row without one; "" makes that an error. A row with tests (`TESTS`) need not
    have an answer. Whatever is no field of a problem goes into `metadata` under its own name.

    Raises UserError, naming the place and the field.
    """
    names = {field: columns.get(field, field) for field in FIELDS}
    level = row.get(names["level"])
    has_id = names["id"] in row or not unnamed
    is_task = names["answer"] not in row and any(name in row for name in TESTS)
    return Problem(
        id=text_of(row, names["id"], place) if has_id else unnamed,
        text=text_of(row, names["problem"], place),
        answer="" if is_task else text_of(row, names["answer"], place),
        dataset=dataset,
        level="" if level is None else str(level),
        metadata={name: value for name, value in row.items() if name not in names.values()},
    )


def text_of(row: Row, name: str, place: str) -> str:
    """The text in a field, numbers as they are written. Raises UserError where there is none."""
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


def _parse(line: str, place: str) -> Row:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise UserError(f"{place}: not valid JSON: {error.msg} at column {error.colno}") from error
    except ValueError as error:  # a number of more digits than Python reads
        raise UserError(f"{place}: not valid JSON: {error}") from error
    if not isinstance(row, dict):
        raise UserError(f"{place}: a JSON object is needed, this is a {type(row).__name__}")
    return row
