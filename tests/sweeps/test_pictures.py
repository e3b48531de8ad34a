import numpy as np
import pytest

from riskpo_jax.reporting.run_data import RunData
from riskpo_jax.sweeps.pictures import curves, differences, draw_pictures, pass_at_k


def test_the_curves_are_means_over_seeds(outcomes):
    figure = curves(outcomes)
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    ax = figure.axes[titles.index("pass@1 (%), toy")]
    line = {line.get_label(): line for line in ax.lines}["better"]
    assert line.get_ydata() == pytest.approx([0, 50])
    assert "broken" not in {line.get_label() for line in ax.lines}
    low, high = ax.collections[1].get_datalim(ax.transData).intervaly
    assert low < 50 < high


def test_pass_at_k_before_and_after(outcomes):
    figure = pass_at_k(outcomes)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[1].lines}
    assert lines["before training"] == pytest.approx([0, 50 + 50 * np.mean([0.45])])
    assert lines["base"] == pytest.approx([40, 70])


def test_differences_have_a_row_for_every_other_variant_that_ran(outcomes):
    figure = differences(outcomes, "base")
    ax = figure.axes[0]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["better"]
    dot = next(line for line in ax.lines if line.get_marker() == "o")
    assert dot.get_xdata() == pytest.approx([10])


def test_files_are_written_and_nothing_is_drawn_of_nothing(outcomes, tmp_path):
    written = draw_pictures(tmp_path, outcomes, "base")
    assert [path.name for path in written] == ["curves.png", "pass_at_k.png", "differences.png"]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert draw_pictures(tmp_path, {"base": {}, "better": {}}, "base") == []
    assert draw_pictures(tmp_path, {"base": {}, "better": outcomes["better"]}, "base")


def test_variants_may_be_evaluated_on_different_sets_and_ks_or_not_at_all(outcomes, tmp_path):
    other = RunData(
        outcomes["base"][0].metrics,
        {
            "other/all": [
                {"step": 0, "pass@1": 0.1, "pass@2": 0.2},
                {"step": 20, "pass@1": 0.5, "pass@2": 1.0},
            ]
        },
    )
    fewer = RunData([], {"toy/all": [{"step": step, "pass@1": 0.5} for step in (0, 20)]})
    mixed = dict(outcomes) | {
        "other": {0: other},
        "fewer": {0: fewer},
        "none": {0: RunData([], {})},
    }
    assert len(draw_pictures(tmp_path, mixed, "base")) == 3
    panels = {ax.get_title(loc="left"): ax for ax in pass_at_k(mixed).axes}
    lines = {line.get_label(): line for line in panels["pass@k (%), other/all"].lines}
    assert lines["other"].get_xydata().tolist() == [[1, 50], [2, 100]]
