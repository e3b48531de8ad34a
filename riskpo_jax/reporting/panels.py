"""One function a panel: draws into the axes and returns whether the run has data for it."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, PercentFormatter

from riskpo_jax.reporting.run_data import RunData, Series, pass_ks

# Okabe & Ito (2008): told apart by colour-blind readers.
BLUE, ORANGE, GREEN = "#0072B2", "#E69F00", "#009E73"
VERMILION, PURPLE, SKY = "#D55E00", "#CC79A7", "#56B4E9"
COLOURS = (BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY)
MARKERS = ("o", "s", "^")  # for the second and third round of colours
GREY = "#555555"


def reward(ax: Axes, run: RunData) -> bool:
    curves = {"reward/mean": ("moving average", BLUE)}
    return draw_curves(ax, run, "Reward", "mean reward of a response", curves)


def entropy(ax: Axes, run: RunData) -> bool:
    curves = {"policy/entropy": ("moving average", GREEN)}
    return draw_curves(ax, run, "Policy entropy", "entropy (nats per token)", curves)


def quantiles(ax: Axes, run: RunData) -> bool:
    curves = {
        "risk/q_beta": (r"$q_\beta$", VERMILION),
        "bundle/score_mean": ("mean score", GREY),
        "risk/q_alpha": (r"$q_\alpha$", BLUE),
    }
    return draw_curves(ax, run, "Tracked quantiles", "bundle score (sum of rewards)", curves)


def risk(ax: Axes, run: RunData) -> bool:
    curves = {
        "risk/rvar": ("RVaR (middle)", ORANGE),
        "risk/mvar": ("MVaR", PURPLE),
        "risk/cvar": ("CVaR (lower tail)", SKY),
    }
    return draw_curves(ax, run, "Risk measures", "bundle score (sum of rewards)", curves)


def pass_at_k(ax: Axes, run: RunData) -> bool:
    """pass@1 solid and pass@(largest k) dashed, a colour a level or dataset, with their 95% bands."""
    evals = run.curves()
    ks = _ends(pass_ks(row for rows in evals.values() for row in rows))
    drawn = [name for name, rows in evals.items() if any(Series.of(rows, f"pass@{k}") for k in ks)]
    if not drawn:
        return False
    names = _short_names(drawn)
    handles = []
    for number, dataset in enumerate(drawn):
        colour = COLOURS[number % len(COLOURS)]
        marker = MARKERS[number // len(COLOURS) % len(MARKERS)]
        style = {"color": colour, "marker": marker, "ms": 4}
        handles.append(Line2D([], [], lw=2.2, label=names[dataset], **style))
        for k, dashes in zip(ks, ("-", "--"), strict=False):
            _band(ax, evals[dataset], f"pass@{k}", dashes, style)
    styles = [
        Line2D([], [], color=GREY, ls=dashes, lw=1.8, label=f"pass@{k}")
        for k, dashes in zip(ks, ("-", "--"), strict=False)
    ]
    ax.yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    ax.set_ylim(0, min(ax.get_ylim()[1], 1.02))
    _dress(ax, "Problems solved, evaluation", "solved (95% band)", handles + styles)
    return True


def step_time(ax: Axes, run: RunData) -> bool:
    """Seconds a step, stacked. Rare slow steps (compilation) are cut off, the slowest is named."""
    parts = {
        "time/rollout_s": ("rollout", BLUE),
        "time/reward_s": ("reward", ORANGE),
        "time/update_s": ("update", GREEN),
    }
    recorded = [key for key in parts if run.series(key)]
    rows = [row for row in run.metrics if all(row.get(key) is not None for key in recorded)]
    if not recorded or not rows:
        return False
    split = [Series.of(rows, key) for key in recorded]
    labels, colours = zip(*(parts[key] for key in recorded), strict=True)
    seconds = np.stack([series.values for series in split])
    steps = split[0].steps
    areas = ax.stackplot(
        np.append(steps, steps[-1] + 1) - 0.5,  # each step fills its own unit of the axis
        np.pad(seconds, ((0, 0), (0, 1)), mode="edge"),
        labels=labels,
        colors=colours,
        alpha=0.85,
        lw=0,
        step="post",
    )
    total = seconds.sum(axis=0)
    usual, slowest = np.quantile(total, 0.9, method="lower"), total.max()
    if slowest > 1.4 * usual:
        note = f"slowest step: {slowest:.3g} s"
        ax.text(
            0.98, 0.97, note, transform=ax.transAxes, ha="right", va="top", fontsize=11, color=GREY
        )
    ax.set_ylim(0, 1.4 * min(usual, slowest) or 1.0)
    _dress(ax, "Time of a step", "seconds per step", areas)
    return True


def draw_curves(ax: Axes, run: RunData, title: str, ylabel: str, curves: dict) -> bool:
    """Each recorded key of {key: (label, colour)} as a smoothed line over its faint raw values."""
    handles = []
    for key, (label, colour) in curves.items():
        if (series := run.series(key)) is None:
            continue
        smooth = series.smoothed()
        marker = "o" if len(series.steps) == 1 else None
        raw = ax.plot(series.steps, series.values, color=colour, alpha=0.3, lw=1, label="each step")
        handles += ax.plot(
            smooth.steps, smooth.values, color=colour, lw=2.2, marker=marker, label=label
        )
    if handles:
        _dress(ax, title, ylabel, handles + raw if len(curves) == 1 else handles)
    return bool(handles)


def _band(ax: Axes, rows: list[dict], key: str, dashes: str, style: dict) -> None:
    if (series := Series.of(rows, key)) is None:
        return
    ax.plot(series.steps, series.values, ls=dashes, lw=2, **style)
    low, high = Series.of(rows, f"{key}/low"), Series.of(rows, f"{key}/high")
    if low and high:
        ax.fill_between(low.steps, low.values, high.values, color=style["color"], alpha=0.13, lw=0)


def _dress(ax: Axes, title: str, ylabel: str, handles: list) -> None:
    """Title, labels, grid, and the legend between title and data."""
    longest = max(len(handle.get_label()) for handle in handles)
    columns = 5 if longest <= 9 else 4  # "each step" and "math500" fit, "olympiadbench" does not
    legend_rows = -(-len(handles) // columns)
    ax.set_title(title, loc="left", fontsize=14, fontweight="bold", pad=8 + 18 * legend_rows)
    ax.set_xlabel("training step", fontsize=12)
    ax.set_ylabel(ylabel, fontsize=12)
    ax.tick_params(labelsize=11, color=GREY)
    ax.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    ax.grid(color="#DDDDDD", lw=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    legend = ax.legend(
        handles=handles,
        loc="lower left",
        bbox_to_anchor=(0, 1.0),
        borderaxespad=0.2,
        borderpad=0.2,
        ncols=columns,
        frameon=False,
        fontsize=10,
        handlelength=1.3,
        handletextpad=0.5,
        columnspacing=0.9,
    )
    legend.set_in_layout(False)  # or a wide legend would narrow the axes under it


def _ends(ks: list[int]) -> list[int]:
    return sorted({ks[0], ks[-1]}) if ks else []


def _short_names(datasets: list[str]) -> dict[str, str]:
    """The level alone where all come from one dataset; "all" is the dataset itself."""
    one = len({name.rsplit("/", 1)[0] for name in datasets}) == 1
    short = {}
    for name in datasets:
        level = name.rsplit("/", 1)[-1]
        short[name] = level if one and level != "all" else name.removesuffix("/all")
    return short
