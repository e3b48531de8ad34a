"""The pictures of a sweep: curves over training, pass@k against k, differences from the baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import ScalarFormatter

from riskpo_jax.reporting.measurement import dress, write_picture
from riskpo_jax.reporting.panels import COLOURS, GREY
from riskpo_jax.reporting.run_data import RunData
from riskpo_jax.sweeps import measures
from riskpo_jax.sweeps.measures import Measure
from riskpo_jax.sweeps.outcomes import (
    Outcomes,
    curves_of,
    evaluated_datasets,
    evaluated_ks,
    values_by_seed,
)
from riskpo_jax.sweeps.statistics import band, paired_by_seed

_DASHES = ("-", "--", ":")  # a second and third round of colours


def draw_pictures(folder: Path, outcomes: Outcomes, baseline: str) -> list[Path]:
    """Writes curves.png, pass_at_k.png and differences.png, as far as there is data for them."""
    figures = {
        "curves": curves(outcomes),
        "pass_at_k": pass_at_k(outcomes),
        "differences": differences(outcomes, baseline),
    }
    return [write_picture(folder, name, figure) for name, figure in figures.items() if figure]


def curves(outcomes: Outcomes) -> Figure | None:
    """pass@1, pass@(largest k), entropy, reward, MVaR and the lower tail against the step."""
    shown = _headline(outcomes)[:-1] + list(measures.TRAINING)
    runs = _runs(outcomes)
    if not runs:
        return None
    figure, grid = _figure(len(shown), columns=3)
    for ax, measure in zip(grid, shown, strict=True):
        for number, (name, ours) in enumerate(runs.items()):
            if (found := curves_of(measure, ours)) is not None:
                _band(ax, *found, name, number)
        dress(ax, measure.label, "training step")
    return _with_legend(figure)


def pass_at_k(outcomes: Outcomes) -> Figure | None:
    """pass@k against k after the last step, and before the first (grey), a panel a dataset and level."""
    ks, datasets = evaluated_ks(outcomes), evaluated_datasets(outcomes)
    runs = _runs(outcomes)
    if len(ks) < 2 or not runs:
        return None
    figure, grid = _figure(len(datasets), columns=min(2, len(datasets)))
    for ax, dataset in zip(grid, datasets, strict=True):
        rows = {
            name: [r.evals[dataset] for r in ours if dataset in r.evals]
            for name, ours in runs.items()
        }
        every = [row for ours in rows.values() for evals in ours for row in evals]
        shared = [k for k in ks if all(f"pass@{k}" in row for row in every)]
        before = _passes([evals[0] for ours in rows.values() for evals in ours], shared).mean(
            axis=0
        )
        ax.plot(shared, before, color=GREY, lw=2, marker=".", label="before training")
        for number, (name, ours) in enumerate(rows.items()):
            if ours:
                _band(ax, shared, _passes([evals[-1] for evals in ours], shared), name, number)
        ax.set_xscale("log", base=2)
        ax.set_xticks(shared)
        ax.xaxis.set_major_formatter(ScalarFormatter())
        dress(ax, f"pass@k (%), {dataset}", "k")
    return _with_legend(figure)


def _passes(rows: Sequence[dict], ks: Sequence[int]) -> np.ndarray:
    """[rows, ks]: pass@k in percent."""
    return np.array([[100 * row[f"pass@{k}"] for k in ks] for row in rows])


def differences(outcomes: Outcomes, baseline: str) -> Figure | None:
    """Differences from the baseline paired by seed: thick the bootstrap, thin Student's interval."""
    others = [name for name, runs in outcomes.items() if name != baseline and runs]
    shown = _headline(outcomes)
    if not others or not outcomes[baseline]:
        return None
    figure = Figure(
        figsize=(4.2 * len(shown) + 1.5, 1.6 + 0.34 * len(others)), layout="constrained"
    )
    grid = figure.subplots(1, len(shown), sharey=True, squeeze=False)[0]
    for ax, measure in zip(grid, shown, strict=True):
        reference = values_by_seed(measure, outcomes[baseline])
        for place, name in enumerate(others):
            found = paired_by_seed(values_by_seed(measure, outcomes[name]), reference)
            if found is None:
                continue
            colour = _style(list(outcomes).index(name))["color"]
            if found.student:
                ax.plot(found.student[1:], [place, place], color=colour, lw=1.2)
            ax.plot(found.bootstrap[1:], [place, place], color=colour, lw=4, solid_capstyle="butt")
            ax.plot(found.bootstrap.mean, place, "o", color=colour, ms=6)
        ax.axvline(0, color=GREY, lw=1)
        ax.set_yticks(range(len(others)), others)
        ax.set_ylim(len(others) - 0.5, -0.5)
        dress(ax, measure.label, f"difference from {baseline}")
    return figure


def _band(ax: Axes, x: Sequence[float], values_SxT: np.ndarray, label: str, number: int) -> None:
    """Mean over seeds and its 95% bootstrap interval."""
    low, high = band(values_SxT)
    style = _style(number)
    ax.fill_between(x, low, high, color=style["color"], alpha=0.12, lw=0)
    ax.plot(x, values_SxT.mean(axis=0), lw=1.8, label=label, **style)


def _style(number: int) -> dict[str, str]:
    return {
        "color": COLOURS[number % len(COLOURS)],
        "ls": _DASHES[number // len(COLOURS) % len(_DASHES)],
    }


def _headline(outcomes: Outcomes) -> list[Measure]:
    return measures.headline(evaluated_datasets(outcomes), evaluated_ks(outcomes))


def _runs(outcomes: Outcomes) -> dict[str, list[RunData]]:
    return {name: list(by_seed.values()) for name, by_seed in outcomes.items() if by_seed}


def _figure(panels: int, columns: int) -> tuple[Figure, list[Axes]]:
    rows = -(-panels // columns)
    width = max(4.7 * columns, 9.0)  # or a legend of four columns would not fit
    figure = Figure(figsize=(width, 3.4 * rows + 0.8), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[panels:]:
        unused.set_axis_off()
    return figure, axes[:panels]


def _with_legend(figure: Figure) -> Figure:
    """One legend for all panels, under them."""
    drawn = {}
    for ax in figure.axes:
        handles, labels = ax.get_legend_handles_labels()
        drawn |= dict(zip(labels, handles, strict=True))
    labels, handles = list(drawn), list(drawn.values())
    columns = max(1, min(4, len(labels)))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, frameon=False)
    return figure
