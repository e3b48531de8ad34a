"""The table and the picture of what `experiments.gradient_noise` measured, from its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.table import Table

from riskpo_jax.reporting.measurement import dress, table, with_interval
from riskpo_jax.reporting.panels import BLUE, GREEN, GREY, ORANGE, VERMILION


class Column(NamedTuple):
    key: str
    heading: str
    title: str
    unit: str
    form: str
    log: bool = False
    mark: float | None = None


COLUMNS = (
    Column("snr", "SNR", "Signal to noise of a batch", "||E g||² / E||g - E g||²", ".4f", True),
    Column("snr_over_paper", "SNR / paper's", "", "", ".2f"),
    Column("alignment", "one batch", "One batch and own mean", "cosine", ".3f", mark=0),
    Column(
        "cosine_mean_reward",
        "mean reward",
        "Mean and mean-reward gradient",
        "cosine",
        ".3f",
        mark=1,
    ),
    Column(
        "cosine_expected_mvar",
        "expected MVaR",
        "Mean and expected-credit MVaR",
        "cosine, same bundling",
        ".3f",
        mark=1,
    ),
    Column("difference_expected_mvar", "|difference|² to it", "", "", ".2f"),
)


def gradient_noise_tables(result: Mapping[str, Any]) -> list[Table]:
    """A row an estimator: what `experiments.gradient_noise.rows_of` says, with 95% intervals."""
    made = table(_title(result), ["estimator", *(column.heading for column in COLUMNS)])
    for row in result["rows"]:
        cells = [with_interval(row[c.key][0], row[c.key][1:], c.form) for c in COLUMNS]
        made.add_row(row["estimator"], *cells)
    return [made]


def gradient_noise_figure(result: Mapping[str, Any]) -> Figure:
    rows, shown = result["rows"], [column for column in COLUMNS if column.title]
    figure = Figure(figsize=(18, 0.36 * len(rows) + 2.2), layout="constrained")
    axes = figure.subplots(1, len(shown), sharey=True)
    for ax, column in zip(axes, shown, strict=True):
        _draw(ax, rows, column)
    axes[0].set_yticks(range(len(rows)), [row["estimator"] for row in rows], fontsize=10)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    figure.suptitle(_title(result), x=0.01, ha="left", fontsize=12)
    return figure


def _draw(ax: Axes, rows: Sequence[Mapping[str, Any]], column: Column) -> None:
    values = np.array([row[column.key] for row in rows], float)
    if column.mark is not None:
        ax.axvline(column.mark, color=GREY, lw=1)
    for place, (row, (value, low, high)) in enumerate(zip(rows, values, strict=True)):
        if not np.isfinite([value, low, high]).all():
            continue
        bars = [[value - low], [high - value]]
        colour = _colour(row["estimator"])
        ax.errorbar(value, place, xerr=bars, color=colour, marker="o", ms=6, lw=2, capsize=3)
    positive = values[:, 0][values[:, 0] > 0]
    if column.log and len(positive):
        ax.set_xscale("log")
        ax.set_xlim(left=positive.min() / 3)
    if column.mark is not None:  # intervals of what has little signal reach far
        low, high = ax.get_xlim()
        ax.set_xlim(max(low, -1), min(high, 1.5))
    dress(ax, column.title, f"{column.unit} (95% interval)")


def _colour(estimator: str) -> str:
    """By family: neutral methods, the uniform and the expected credit of MVaR, all others."""
    if estimator.startswith("MVaR"):
        return VERMILION if "uniform" in estimator else GREEN
    if estimator.startswith(("seeking", "official")):
        return ORANGE
    return BLUE


def _title(result: Mapping[str, Any]) -> str:
    model, step = result["model"]["name"], result["model"]["step"]
    name = model if step is None else f"{model} step {step}"
    settings = result["settings"]
    size = f"{settings['data.questions_per_step']} x {settings['rollout.group_size']}"
    return f"Gradients of {name}: {result['batches']} batches of {size} responses"
