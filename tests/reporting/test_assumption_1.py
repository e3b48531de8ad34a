"""The picture of Assumption 1, on cells written by hand."""

import numpy as np
from matplotlib.colors import to_rgba

from riskpo_jax.reporting.assumption_1 import assumption_1_figure

PROFILES = ("mean", "averse", "seeking")
CREDITS = ("expected", "uniform, mean baseline", "uniform, no baseline")


def cell(model, level):
    psi = [{"score": s, "psi": -s, "psi_95": [-s - 1, -s + 1], "units": 9} for s in (0.0, 1.0)]
    sizes = {"raw": 0.1, "raw_95": [0.0, 0.2], "unit": 0.3, "unit_95": [0.2, 0.4]}
    return {
        **{"model": model, "step": None, "temperature": 1.0, "level": level},
        **{"q_alpha": 0.0, "q_beta": 1.0},
        "bundle": {
            name: {"mean": -0.5, "psi": psi} for name in ("log pi", "log pi within question")
        },
        "covariance": [{"profile": p, "credit": c} | sizes for p in PROFILES for c in CREDITS],
    }


def test_a_policy_has_one_colour_at_every_level():
    """Models of different tasks have no levels in common: a level's first cell may be any policy's."""
    cells = [cell("sums", "all"), cell("sums", "easy"), cell("words", "all"), cell("words", "long")]
    figure = assumption_1_figure({"cells": cells})
    legend = {
        text.get_text(): line.get_color()
        for text, line in zip(
            figure.legends[0].get_texts(), figure.legends[0].get_lines(), strict=True
        )
    }
    rows = np.reshape(figure.axes, (3, 4))[:, :2]
    for row, models in zip(rows, (["sums", "words"], ["sums"], ["words"]), strict=True):
        for ax in row:
            found = [to_rgba(bars.lines[0].get_color()) for bars in ax.containers]
            assert found == [to_rgba(legend[f"{model}, T=1"]) for model in models]
