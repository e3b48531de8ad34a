"""The files of a measurement, and what its tables and pictures share."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from riskpo_jax.errors import UserError
from riskpo_jax.files import replacing
from riskpo_jax.reporting.panels import GREY
from riskpo_jax.reporting.writers import strict_json

_DPI = 130


def write_numbers(folder: Path, name: str, result: Mapping[str, Any]) -> Path:
    """Writes `folder`/`name`.json, strict JSON, in the place of an old one.

    Raises:
      UserError: a folder that cannot be made.
    """
    check_folder(folder)
    numbers = folder / f"{name}.json"
    with replacing(numbers) as aside:
        text = json.dumps(strict_json(result), indent=1, allow_nan=False) + "\n"
        aside.write_text(text, encoding="utf-8", newline="\n")
    return numbers


def write_picture(folder: Path, name: str, figure: Figure) -> Path:
    """Writes `folder`/`name`.png in the place of an old one.

    Raises:
      UserError: a folder that cannot be made.
    """
    check_folder(folder)
    picture = folder / f"{name}.png"
    with replacing(picture) as aside:
        figure.savefig(aside, format="png", dpi=_DPI, facecolor="white")
    return picture


def check_folder(folder: Path, flag: str = "out") -> None:
    """Makes `folder`, which `flag` gives, before anything is measured for it.

    Raises:
      UserError: it cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--{flag}={folder} cannot be made: {error.strerror}") from error


def table(title: str, columns: Sequence[str], left: int = 1) -> Table:
    """An empty table; the first `left` columns are words."""
    made = Table(
        title=Text(title), title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False, padding=0
    )
    for number, column in enumerate(columns):
        made.add_column(column, justify="left" if number < left else "right", no_wrap=True)
    return made


def print_whole(tables: Sequence[Table]) -> None:
    """Prints tables at their own width, however wide: intervals are never cut."""
    boundless = Console(width=10_000)
    for one in tables:
        width = Measurement.get(boundless, boundless.options, one).maximum
        Console(width=max(width, boundless.measure(one.title).maximum)).print(one)


def with_interval(value: float | None, interval: Sequence[float | None], form: str) -> str:
    """`value [low, high]`, or a dash for what is not a number."""
    low, high = interval
    if any(x is None or x != x for x in (value, low, high)):
        return "-"
    return f"{value:{form}} [{low:{form}}, {high:{form}}]"


def dress(ax: Axes, title: str, xlabel: str, ylabel: str = "") -> None:
    """Title, labels and grid of a panel."""
    ax.set_title(title, loc="left", fontsize=11, fontweight="bold")
    ax.set_xlabel(xlabel, fontsize=10)
    ax.set_ylabel(ylabel, fontsize=10)
    ax.tick_params(labelsize=9, color=GREY)
    ax.grid(color="#DDDDDD", lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
