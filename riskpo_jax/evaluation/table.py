"""Evaluations as tables for the terminal: rates in percent, differences in percentage points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from riskpo_jax.evaluation.bootstrap import Interval
from riskpo_jax.evaluation.result import ALL, EvalResult, compare
from riskpo_jax.rewards.outcome import Kind

_LONGEST_NAME = 14  # of a set in the table; longer ones go on in the next line


class Column(NamedTuple):
    """A heading, and what stands under it in a row of `EvalResult.summary`; both have two lines."""

    heading: str
    cell: Callable[[dict], Text]


def evaluation_tables(results: Sequence[EvalResult], ks: Sequence[int], width: int) -> list[Table]:
    """A row a set, then one a level of it: rates over 95% intervals, lengths, counts of outcomes.

    One table where it fits `width` columns (100 are enough for three k), else one of the rates and one
    of the responses (80). The results have the same number S of samples a problem.

    Raises:
      UserError: a k is outside 1..S.
    """
    if not results:
        return []
    samples = results[0].samples
    names = Column("set\nproblems", _name)
    rates = [
        Column(f"{name}\n95%", partial(_rate_with_interval, key=name))
        for name in (*(f"pass@{k}" for k in ks), f"avg@{samples}", f"maj@{samples}")
    ]
    summaries = [result.summary(ks) for result in results]
    sets = [[whole, *levels] for *levels, whole in summaries]
    title = f"{samples} sample{'s' * (samples > 1)} a problem, rates in %"
    whole = _filled(title, [names, *rates, *_RESPONSES], sets)
    boundless = Console(width=10_000)
    if Measurement.get(boundless, boundless.options, whole).maximum <= width:
        return [whole]
    return [
        _filled(title, [names, *rates], sets),
        _filled("responses", [names, *_RESPONSES], sets),
    ]


def _filled(title: str, columns: Sequence[Column], sets: Sequence[Sequence[dict]]) -> Table:
    table = _table(title)
    table.padding = 0  # one space between columns
    for number, column in enumerate(columns):
        table.add_column(
            column.heading,
            justify="right" if number else "left",
            overflow="fold",
            max_width=None if number else _LONGEST_NAME,
        )
    for rows in sets:
        for row in rows:
            cells = [column.cell(row) for column in columns]
            table.add_row(*cells, end_section=row is rows[-1] and len(sets) > 1)
    return table


def comparison_table(before: EvalResult, after: EvalResult, ks: Sequence[int]) -> Table:
    """One row a level and k: before, after, and their paired difference with its 95% interval.

    A difference whose interval excludes zero is bold.

    Raises:
      UserError: the two did not evaluate the same problems, or a k is outside 1..samples.
    """
    table = _table(f"{after.dataset}: step {before.step} and step {after.step} (%)")
    table.add_column("level")
    for column in ("n", "metric", "before", "after", "difference", "95% interval"):
        table.add_column(column, justify="right", overflow="fold")
    for row in compare(before, after, ks):
        for first, k in zip([True] + [False] * len(ks), ks, strict=False):
            difference = row[f"pass@{k}/difference"]
            table.add_row(
                _level(row) if first else "",
                str(row["n"]) if first else "",
                f"pass@{k}",
                _percent(row[f"pass@{k}/before"]),
                _percent(row[f"pass@{k}/after"]),
                Text(_points(difference.mean), style=_style(difference)),
                f"[{_points(difference.low)}, {_points(difference.high)}]",
                end_section=k == ks[-1],
            )
    return table


def _table(title: str) -> Table:
    return Table(
        title=title,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )


def _level(row: dict) -> str:
    return row["dataset"].rsplit("/", 1)[-1]


def _name(row: dict) -> Text:
    """The set, or a level under its set; how many problems it has."""
    dataset, level = row["dataset"].rsplit("/", 1)
    text = dataset if level == ALL else f"  level {level}" if level.isdigit() else f"  {level}"
    indent = "" if level == ALL else "  "
    return Text.assemble(text, "\n", (f"{indent}{row['n']}", "dim"))


def _rate_with_interval(row: dict, key: str) -> Text:
    low, high = (_percent(row[f"{key}/{end}"]).replace("100.0", "100") for end in ("low", "high"))
    return _over(_percent(row[key]), f"{low}-{high}")


def _length(row: dict) -> Text:
    truncated = _percent(row["response/truncated_fraction"])
    return _over(f"{row['response/length_mean']:.1f}", f"{truncated}%")


def _counts(row: dict, first: Kind, second: Kind) -> Text:
    return _over(str(row[f"outcome/{first}"]), str(row[f"outcome/{second}"]))


def _over(first: str, second: str) -> Text:
    return Text.assemble(first, "\n", (second, "dim"))


_RESPONSES = (
    Column("tokens\ncut off", _length),
    Column("correct\nwrong", partial(_counts, first=Kind.CORRECT, second=Kind.WRONG)),
    Column("no ans.\ntimeout", partial(_counts, first=Kind.NO_ANSWER, second=Kind.TIMEOUT)),
    Column("\nerror", lambda row: _over("", str(row[f"outcome/{Kind.ERROR}"]))),
)


def _style(difference: Interval) -> str:
    if not difference.excludes_zero:
        return ""
    return "bold green" if difference.mean > 0 else "bold red"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"
