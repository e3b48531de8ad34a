"""Tables and the picture of what `experiments.assumption_1` measured, from its JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from rich.table import Table

from riskpo_jax.reporting.measurement import dress, table, with_interval
from riskpo_jax.reporting.panels import COLOURS, GREY

Cell = Mapping[str, Any]
AS_STATED, WITHIN = "log pi", "log pi within question"
_PROFILES = dict(zip(("mean", "averse", "seeking"), COLOURS, strict=False))
_CREDITS = {"expected": "o", "uniform, mean baseline": "s", "uniform, no baseline": "^"}


def assumption_1_tables(result: Mapping[str, Any]) -> list[Table]:
    """Every cell's verdicts; psi and covariances of the last policy's cells; the count of verdicts."""
    cells = result["cells"]
    last = [cell for cell in cells if policy_of(cell) == policy_of(cells[-1])]
    return [_cells(cells), _psi(last), _covariances(last), _verdicts(result["verdicts"])]


def policy_of(cell: Cell) -> str:
    """What is sampled from: model, step of its checkpoint, temperature."""
    step = "" if cell["step"] is None else f" step {cell['step']}"
    return f"{cell['model']}{step}, T={cell['temperature']:g}"


def assumption_1_figure(result: Mapping[str, Any]) -> Figure:
    """A row a level: psi as stated and within questions, then what it means for entropy."""
    cells = result["cells"]
    levels, policies = _distinct(c["level"] for c in cells), _distinct(map(policy_of, cells))
    colours = _colours(policies)
    figure = Figure(figsize=(18, 3.6 * len(levels) + 1.2), layout="constrained")
    axes = figure.subplots(len(levels), 4, squeeze=False)
    for row, level in zip(axes, levels, strict=True):
        here = [cell for cell in cells if cell["level"] == level]
        _draw_psi(row[0], here, AS_STATED, colours, f"{level}: as stated")
        _draw_psi(row[1], here, WITHIN, colours, f"{level}: within questions")
        raw = {"expected": _CREDITS["expected"]}
        _draw_changes(row[2], here, "raw", raw, f"{level}: raw advantages")
        _draw_changes(row[3], here, "unit", _CREDITS, f"{level}: advantages at unit RMS")
    handles = [Line2D([], [], color=c, marker="o", label=p) for p, c in colours.items()]
    handles += [Line2D([], [], color=c, lw=5, label=p) for p, c in _PROFILES.items()]
    handles += [
        Line2D([], [], color=GREY, marker=m, ls="", label=f"credit {c}")
        for c, m in _CREDITS.items()
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=6, frameon=False, fontsize=10)
    return figure


def _draw_psi(
    ax: Axes, cells: Sequence[Cell], name: str, colours: Mapping[str, Any], title: str
) -> None:
    """psi(score) less the mean, with 95% bars; grey: the tails of the last cell."""
    for cell in cells:
        found = cell["bundle"][name]
        rows = [r for r in found["psi"] if r["units"] >= 2]
        scores, values = (np.array([r[key] for r in rows]) for key in ("score", "psi"))
        bars = np.abs(np.array([r["psi_95"] for r in rows]).T - values)
        ax.errorbar(
            scores,
            values - found["mean"],
            bars,
            color=colours[policy_of(cell)],
            marker="o",
            ms=4,
            lw=1.6,
            capsize=2,
        )
    ax.axhline(0, color=GREY, lw=1)
    low, high = ax.get_xlim()
    ax.axvspan(low, cells[-1]["q_alpha"], color=GREY, alpha=0.12, lw=0)
    ax.axvspan(cells[-1]["q_beta"], high, color=GREY, alpha=0.12, lw=0)
    ax.set_xlim(low, high)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    xlabel = "bundle score (grey: up to q_alpha, from q_beta)"
    dress(ax, title, xlabel, "psi - E[log pi], nats a bundle")


def _draw_changes(
    ax: Axes, cells: Sequence[Cell], scale: str, credits: Mapping[str, str], title: str
) -> None:
    """-Cov(log pi, A) of each profile and credit, a place a policy."""
    shown = [(p, c) for p in _PROFILES for c in credits]
    places = np.linspace(-0.3, 0.3, len(shown))
    for (profile, credit), offset in zip(shown, places, strict=True):
        rows = [_row(cell, profile, credit) for cell in cells]
        values = -np.array([row[scale] for row in rows])
        bars = np.abs(-np.array([row[f"{scale}_95"] for row in rows]).T - values)
        ax.errorbar(
            np.arange(len(cells)) + offset,
            values,
            bars,
            color=_PROFILES[profile],
            marker=credits[credit],
            ms=5,
            lw=1.4,
            ls="-" if credit == "expected" and len(cells) > 1 else "",
            capsize=2,
        )
    ax.axhline(0, color=GREY, lw=1)
    ticks = _short_names(cells)
    turned = 45 if max(map(len, ticks)) * len(ticks) > 40 else 0
    ax.set_xticks(range(len(cells)), ticks, rotation=turned, ha="right" if turned else "center")
    ax.set_xlim(-0.6, len(cells) - 0.4)
    dress(ax, title, "policy", "-Cov(log pi, A), nats a question")


def _row(cell: Cell, profile: str, credit: str) -> Mapping[str, Any]:
    return next(r for r in cell["covariance"] if (r["profile"], r["credit"]) == (profile, credit))


def _short_names(cells: Sequence[Cell]) -> list[str]:
    """What tells the cells' policies apart: the model, the step, the temperature."""
    parts = {
        "model": [cell["model"] for cell in cells],
        "step": ["" if cell["step"] is None else str(cell["step"]) for cell in cells],
        "temperature": [f"T={cell['temperature']:g}" for cell in cells],
    }
    telling = [names for names in parts.values() if len(set(names)) > 1] or [parts["model"]]
    return [" ".join(filter(None, names)) for names in zip(*telling, strict=True)]


def _colours(policies: Sequence[str]) -> dict[str, Any]:
    """A ramp, so that the order of a run's checkpoints can be seen."""
    ramp = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, len(policies)))
    return dict(zip(policies, ramp, strict=True))


def _distinct(names: Any) -> list[str]:
    return list(dict.fromkeys(names))


def _cells(cells: Sequence[Cell]) -> Table:
    columns = ["policy", "level", "questions", "reward", "nats", "q_a", "q_b"]
    columns += [
        "A1 single",
        "A1 bundle",
        "within",
        "Cov mean - Cov MVaR [95%]",
        "Theorem 2",
        "at unit RMS [95%]",
    ]
    made = table("Assumption 1 and Theorem 2 (nats: entropy of a response)", columns, left=2)
    for cell in cells:
        theorem, unit = cell["theorem_2"]["raw"], cell["theorem_2"]["unit"]
        made.add_row(
            policy_of(cell),
            cell["level"],
            str(cell["questions"]),
            f"{cell['reward']:.3f}",
            f"{cell['entropy']:.2f}",
            f"{cell['q_alpha']:g}",
            f"{cell['q_beta']:g}",
            cell["single"][AS_STATED]["verdict"],
            cell["bundle"][AS_STATED]["verdict"],
            cell["bundle"][WITHIN]["verdict"],
            with_interval(theorem["difference"], theorem["difference_95"], "+.4f"),
            theorem["verdict"],
            with_interval(unit["difference"], unit["difference_95"], "+.3f"),
        )
    return made


def _psi(cells: Sequence[Cell]) -> Table:
    title = f"psi of bundle scores less E[log pi], nats; {policy_of(cells[-1])}"
    made = table(
        title, ["level", "score", "share", "as stated [95%]", "within question [95%]"], left=1
    )
    for cell in cells:
        stated, within = cell["bundle"][AS_STATED], cell["bundle"][WITHIN]
        for row, centred in zip(stated["psi"], within["psi"], strict=True):
            made.add_row(
                cell["level"],
                f"{row['score']:g}",
                f"{row['share']:.3f}",
                _less_mean(row, stated["mean"]),
                _less_mean(centred, within["mean"]),
                end_section=row is stated["psi"][-1],
            )
    return made


def _less_mean(row: Mapping[str, Any], mean: float) -> str:
    ends = [None if end is None else end - mean for end in row["psi_95"]]
    return with_interval(row["psi"] - mean, ends, "+.2f")


def _covariances(cells: Sequence[Cell]) -> Table:
    columns = ["level", "profile", "credit", "Cov, raw [95%]", "Cov at unit RMS [95%]"]
    title = "Entropy lost to first order, nats a question"
    made = table(f"{title}; {policy_of(cells[-1])}", columns, left=3)
    for cell in cells:
        for row in cell["covariance"]:
            made.add_row(
                cell["level"],
                row["profile"],
                row["credit"],
                with_interval(row["raw"], row["raw_95"], "+.4f"),
                with_interval(row["unit"], row["unit_95"], "+.3f"),
                end_section=row is cell["covariance"][-1],
            )
    return made


def _verdicts(rows: Sequence[Mapping[str, Any]]) -> Table:
    names = [key for key in rows[0] if key != "test"]
    made = table("Over all cells", ["test", *names])
    for row in rows:
        made.add_row(row["test"], *(str(row[name]) for name in names))
    return made
