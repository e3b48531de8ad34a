"""The tables hold the numbers and fit a terminal of 80 columns."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from riskpo_jax.evaluation.result import EvalResult, compare
from riskpo_jax.evaluation.table import comparison_table, evaluation_table


def result(step, solved, per_level=30, samples=16):
    """The first `solved[level]` samples of every problem of a level are correct."""
    count_P = np.repeat(list(solved.values()), per_level)
    correct_PxS = np.arange(samples)[None, :] < count_P[:, None]
    return EvalResult(
        dataset="countdown",
        step=step,
        problem_ids=[str(n) for n in range(len(count_P))],
        levels=np.repeat(list(solved), per_level).tolist(),
        correct_PxS=correct_PxS,
        answers=[["x"] * samples] * len(count_P),
        outcomes=[["correct"] * samples] * len(count_P),
        lengths_PxS=np.full(correct_PxS.shape, 12),
        truncated_PxS=np.zeros(correct_PxS.shape, bool),
        entropy_PxS=np.zeros(correct_PxS.shape),
    )


def rendered(table):
    console = Console(file=io.StringIO(), width=80)
    console.print(table)
    return console.file.getvalue()


def cells(text, level):
    """The words of the line that starts with `level`."""
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [level])


BEFORE = result(0, {"easy": 4, "medium": 2, "hard": 1})
AFTER = result(200, {"easy": 12, "medium": 2, "hard": 0})


def test_evaluation_table_shows_each_level():
    text = rendered(evaluation_table(BEFORE, [1, 4, 16]))
    pass_at_4 = f"{100 * (1 - math.comb(12, 4) / math.comb(16, 4)):.1f}"
    assert cells(text, "easy")[1:] == [
        "30",
        "25.0",
        pass_at_4,
        "100.0",
        "25.0",
        "100.0",
        "12.0",
        "0.0",
    ]
    assert cells(text, "all")[1] == "90"
    assert "25.0-25.0" in text  # the interval of problems which are all alike
    assert "…" not in text


def test_comparison_table_shows_difference_and_interval():
    text = rendered(comparison_table(BEFORE, AFTER, [1, 16]))
    assert cells(text, "easy")[1:6] == ["30", "pass@1", "25.0", "75.0", "+50.0"]
    assert cells(text, "hard")[1:6] == ["30", "pass@1", "6.2", "0.0", "-6.2"]
    difference = compare(BEFORE, AFTER, [1])[-1]["pass@1/difference"]
    assert f"[{100 * difference.low:+.1f}, {100 * difference.high:+.1f}]" in text
    assert text.count("pass@16") == 4
    assert "…" not in text


@pytest.mark.parametrize(("level", "style"), [(0, "bold green"), (1, ""), (2, "bold red")])
def test_only_a_clear_difference_is_bold(level, style):
    differences = list(comparison_table(BEFORE, AFTER, [1]).columns[5].cells)
    assert differences[level].style == style
