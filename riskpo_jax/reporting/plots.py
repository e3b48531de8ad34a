"""The pictures of a run, from its `metrics.jsonl` and `eval.jsonl`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from riskpo_jax.errors import UserError
from riskpo_jax.files import replacing
from riskpo_jax.reporting import panels
from riskpo_jax.reporting.run_data import RunData

Panel = Callable[..., bool]
PANELS: dict[str, Panel] = {
    "reward": panels.reward,
    "pass_at_k": panels.pass_at_k,
    "entropy": panels.entropy,
    "quantiles": panels.quantiles,
    "risk": panels.risk,
    "step_time": panels.step_time,
}
SUMMARY_SHAPE = (2, 3)
_DPI = 130


def plot_run(workdir: str | os.PathLike) -> list[Path]:
    """Draws `plots/<panel>.png` for each panel with data, and `plots/summary.png` of them all.

    Returns:
      The files written, the summary last.

    Raises:
      UserError: neither file holds anything to plot, or a line of them is not a JSON object.
    """
    workdir = Path(workdir)
    run = RunData.load(workdir)
    singles = {name: _single(panel, run) for name, panel in PANELS.items()}
    singles = {name: figure for name, figure in singles.items() if figure}
    if not singles:
        raise UserError(
            f"{workdir}: nothing to plot in metrics.jsonl or eval.jsonl; run at least one step"
        )
    figures = singles | {"summary": _summary([PANELS[name] for name in singles], run)}
    folder = workdir / "plots"
    folder.mkdir(exist_ok=True)
    return [_save(figure, folder / f"{name}.png") for name, figure in figures.items()]


def _single(panel: Panel, run: RunData) -> Figure | None:
    figure = Figure(figsize=(7, 4.2), layout="constrained")
    return figure if panel(figure.add_subplot(), run) else None


def _summary(drawable: list[Panel], run: RunData) -> Figure:
    """All panels in one grid, filled row by row; places without a panel stay empty."""
    rows, columns = SUMMARY_SHAPE
    figure = Figure(figsize=(15, 8.4), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.12, h_pad=0.12)
    for place, panel in enumerate(drawable, start=1):
        panel(figure.add_subplot(rows, columns, place), run)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    with replacing(path) as aside:
        figure.savefig(aside, format="png", dpi=_DPI, facecolor="white")
    return path
