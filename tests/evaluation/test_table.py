"""The tables hold the numbers and fit their terminal."""

import io
import math

import numpy as np
import pytest
from rich.console import Console

from riskpo_jax.evaluation.result import EvalResult, compare
from riskpo_jax.evaluation.table import comparison_table, evaluation_tables


def result(step, solved, per_level=30, samples=16, dataset="countdown"):
    """The first `solved[level]` samples of every problem of a level are correct."""
    count_P = np.repeat(list(solved.values()), per_level)
    correct_PxS = np.arange(samples)[None, :] < count_P[:, None]
    return EvalResult(
        dataset=dataset,
        step=step,
        problem_ids=[str(n) for n in range(len(count_P))],
        levels=np.repeat(list(solved), per_level).tolist(),
        correct_PxS=correct_PxS,
        answers=[["x"] * samples] * len(count_P),
        outcomes=[["correct" if right else "wrong" for right in row] for row in correct_PxS],
        lengths_PxS=np.full(correct_PxS.shape, 12),
        truncated_PxS=np.zeros(correct_PxS.shape, bool),
        entropy_PxS=np.zeros(correct_PxS.shape),
    )


def rendered(*tables, width=80):
    console = Console(file=io.StringIO(), width=width)
    for table in tables:
        console.print(table)
    return console.file.getvalue()


def cells(text, level):
    """The words of the line that starts with `level`."""
    return next(line.split() for line in text.splitlines() if line.split()[:1] == [level])


BEFORE = result(0, {"easy": 4, "medium": 2, "hard": 1})
AFTER = result(200, {"easy": 12, "medium": 2, "hard": 0})


def test_a_set_and_its_levels_with_all_that_is_known_of_them():
    (table,) = evaluation_tables([BEFORE], [1, 4, 16], 100)
    text = rendered(table, width=100)
    pass_at_4 = f"{100 * (1 - math.comb(12, 4) / math.comb(16, 4)):.1f}"
    rates = ["25.0", pass_at_4, "100.0", "25.0", "100.0"]
    assert cells(text, "easy")[1:] == [*rates, "12.0", "120", "0"]
    lines = text.splitlines()
    below = lines[next(i for i, line in enumerate(lines) if "easy" in line) + 1].split()
    flat = [f"{rate}-{rate}".replace("100.0", "100") for rate in rates]  # problems all alike
    assert below == ["30", *flat, "0.0%", "360", "0", "0"]
    whole = [line.split() for line in lines if line.split()[:1] == ["countdown"]][0]
    assert whole[-2:] == ["210", "0"] and "90" in lines[lines.index(text.splitlines()[5]) + 1]
    assert text.index("countdown") < text.index("easy") < text.index("hard")


@pytest.mark.parametrize(("width", "count"), [(100, 1), (80, 2)])
def test_many_sets_fit_their_terminal(width, count):
    """Wide numbers, long names, levels: nothing is cut short and no line is broken."""
    sets = [
        result(0, dict.fromkeys("12345", 8), samples=32, dataset="math500"),
        result(0, {"": 32}, per_level=1319, samples=32, dataset="gsm8k_test"),
        result(0, {"": 3}, samples=32, dataset="olympiadbench"),
        result(0, {"": 3}, samples=32, dataset="reasoning_gym:chain_sum"),
    ]
    tables = evaluation_tables(sets, [1, 8, 32], width)
    assert len(tables) == count
    text = rendered(*tables, width=width)
    assert "…" not in text and max(map(len, text.splitlines())) <= width
    for words in ("level 5", "42208", "95%", "no ans.", "chain_sum", "olympiadbench"):
        assert words in text
    digits = [line for line in text.splitlines() if line.strip() and "-" in line.split()[-1]]
    assert not digits or all(len(line.split()) > 2 for line in digits)  # no interval on its own


def test_a_table_of_nothing():
    assert evaluation_tables([], [1], 80) == []


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
