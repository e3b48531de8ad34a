"""Evaluations as tables for the terminal: rates in percent, differences in percentage points."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.table import Table
from rich.text import Text

from riskpo_jax.evaluation.bootstrap import Interval
from riskpo_jax.evaluation.result import EvalResult, compare


def evaluation_table(result: EvalResult, ks: Sequence[int]) -> Table:
    """One row a level, then "all"; under each pass@k stands its 95% interval.

    Fits 80 columns with up to three k.

    Raises:
      UserError: a k is outside 1..samples.
    """
    size = result.samples
    columns = ["n", *(f"pass@{k}" for k in ks), f"avg@{size}", f"maj@{size}", "length", "trunc."]
    table = _table(f"{result.dataset}, {size} samples a problem (%, 95% interval)")
    table.add_column("level")
    for column in columns:
        table.add_column(column, justify="right", overflow="fold")
    for row in result.summary(ks):
        table.add_row(
            _level(row),
            str(row["n"]),
            *(_rate_with_interval(row, f"pass@{k}") for k in ks),
            _percent(row[f"avg@{size}"]),
            _percent(row[f"maj@{size}"]),
            f"{row['response/length_mean']:.1f}",
            _percent(row["response/truncated_fraction"]),
        )
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


def _rate_with_interval(row: dict, key: str) -> Text:
    interval = f"{_percent(row[f'{key}/low'])}-{_percent(row[f'{key}/high'])}"
    return Text.assemble(_percent(row[key]), "\n", (interval, "dim"))


def _style(difference: Interval) -> str:
    if not difference.excludes_zero:
        return ""
    return "bold green" if difference.mean > 0 else "bold red"


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.1f}"
