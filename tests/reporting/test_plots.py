"""Pictures from real files: which are drawn, whole, and with the data on their axes."""

import itertools

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.image import imread

from riskpo_jax.errors import UserError
from riskpo_jax.reporting import panels
from riskpo_jax.reporting.plots import PANELS, plot_run
from riskpo_jax.reporting.run_data import RunData, Series
from riskpo_jax.reporting.writers import JsonlWriter

CURVES = (
    *("reward/mean", "policy/entropy", "risk/q_alpha", "risk/q_beta", "bundle/score_mean"),
    *("risk/mvar", "risk/rvar", "risk/cvar", "time/rollout_s", "time/reward_s", "time/update_s"),
)


def record(workdir, steps=60, keys=CURVES, levels=("easy", "hard", "all"), sets=("countdown",)):
    rng = np.random.default_rng(0)
    metrics, evals = JsonlWriter(workdir / "metrics.jsonl"), JsonlWriter(workdir / "eval.jsonl")
    for step in range(1, steps + 1):
        metrics.write(step, {key: rng.random() for key in keys})
        if step % 20 == 1:
            for dataset, level in itertools.product(sets, levels):
                row = {"dataset": f"{dataset}/{level}"}
                for k, rate in ((1, 0.2), (4, 0.4), (16, 0.8)):
                    row |= {
                        f"pass@{k}": rate,
                        f"pass@{k}/low": rate - 0.1,
                        f"pass@{k}/high": rate + 0.1,
                    }
                evals.write(step, row)
    metrics.close()
    evals.close()


def axes_of(panel, workdir):
    ax = Figure().add_subplot()
    assert panel(ax, RunData.load(workdir))
    return ax


def legend_of(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_a_panel_of_keys_that_one_chooses(tmp_path):
    record(tmp_path, keys=("grad/norm",))
    run, ax = RunData.load(tmp_path), Figure().add_subplot()
    curves = {"grad/norm": ("norm", panels.BLUE), "loss/total": ("loss", panels.ORANGE)}
    assert panels.draw_curves(ax, run, "Gradient", "norm", curves)
    assert legend_of(ax) == ["norm"]  # the other was not recorded
    smooth, raw = run.series("grad/norm").smoothed(), run.series("grad/norm")
    drawn = [line.get_ydata() for line in ax.get_lines()]
    np.testing.assert_array_equal(drawn, [raw.values, smooth.values])
    del curves["grad/norm"]
    assert not panels.draw_curves(Figure().add_subplot(), run, "Loss", "loss", curves)


def test_every_panel_and_the_summary_are_whole_pictures(tmp_path):
    record(tmp_path)
    paths = plot_run(tmp_path)
    assert [path.name for path in paths] == [f"{name}.png" for name in (*PANELS, "summary")]
    assert sorted((tmp_path / "plots").iterdir()) == sorted(paths)  # nothing left aside
    for path in paths:
        height, width, _ = imread(path).shape
        assert width > 800 and height > 400
        assert np.unique(imread(path).reshape(-1, 4), axis=0).shape[0] > 20


@pytest.mark.parametrize(
    ("keys", "levels", "names"),
    [
        (("reward/mean", "time/update_s"), (), ["reward", "step_time", "summary"]),
        (("risk/q_alpha",), (), ["quantiles", "summary"]),
        ((), ("all",), ["pass_at_k", "summary"]),
    ],
)
def test_missing_keys_are_skipped(tmp_path, keys, levels, names):
    record(tmp_path, keys=keys, levels=levels)
    assert [path.stem for path in plot_run(tmp_path)] == names


def test_one_step_is_enough(tmp_path):
    record(tmp_path, steps=1)
    assert len(plot_run(tmp_path)) == len(PANELS) + 1


def test_nothing_recorded_is_said(tmp_path):
    with pytest.raises(UserError, match="nothing to plot"):
        plot_run(tmp_path)
    record(tmp_path, keys=("grad/norm",), levels=())
    with pytest.raises(UserError, match="nothing to plot"):
        plot_run(tmp_path)


def test_a_run_that_is_being_written_can_be_plotted(tmp_path):
    record(tmp_path)
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61, "rew')
    assert len(RunData.load(tmp_path).metrics) == 60


def test_pass_panel_draws_levels_at_the_first_and_last_k(tmp_path):
    record(tmp_path)
    ax = axes_of(panels.pass_at_k, tmp_path)
    assert legend_of(ax) == ["easy", "hard", "pass@1", "pass@16"]
    drawn = [(line.get_linestyle(), line.get_ydata()[0]) for line in ax.get_lines()]
    assert drawn == [("-", 0.2), ("--", 0.8)] * 2
    assert len(ax.collections) == 4  # a band each


def test_a_dataset_without_levels_goes_by_its_name(tmp_path):
    record(tmp_path, levels=("all",))
    assert legend_of(axes_of(panels.pass_at_k, tmp_path))[0] == "countdown"


def test_of_several_datasets_each_is_one_colour_whatever_its_levels(tmp_path):
    names = [f"set{n}" for n in range(8)]
    record(tmp_path, sets=names)
    ax = axes_of(panels.pass_at_k, tmp_path)
    assert legend_of(ax) == [*names, "pass@1", "pass@16"]
    looks = {(line.get_color(), line.get_marker()) for line in ax.get_lines()}
    assert len(looks) == 8 and len(ax.get_lines()) == 16


def test_raw_values_lie_under_the_smooth_line(tmp_path):
    record(tmp_path)
    smooth_key = RunData.load(tmp_path).series("reward/mean")
    raw, smooth = axes_of(panels.reward, tmp_path).get_lines()
    np.testing.assert_array_equal(raw.get_ydata(), smooth_key.values)
    assert np.std(np.diff(smooth.get_ydata())) < 0.7 * np.std(np.diff(raw.get_ydata()))


def test_a_compiling_step_is_named_but_does_not_flatten_the_rest(tmp_path):
    metrics = JsonlWriter(tmp_path / "metrics.jsonl")
    for step in range(1, 30):
        metrics.write(step, {"time/rollout_s": 40.0 if step == 1 else 0.5, "time/update_s": 0.5})
    metrics.close()
    ax = axes_of(panels.step_time, tmp_path)
    assert 1.0 < ax.get_ylim()[1] < 2.0
    assert [text.get_text() for text in ax.texts] == ["slowest step: 40.5 s"]


def test_smoothing_keeps_constants_lines_and_ends():
    steps = np.arange(1.0, 201.0)
    np.testing.assert_allclose(Series(steps, np.full(200, 3.0)).smoothed().values, 3.0)
    line = Series(steps, 2 * steps).smoothed().values
    np.testing.assert_allclose(line[10:-10], 2 * steps[10:-10])
    short = Series(steps[:5], steps[:5])
    np.testing.assert_array_equal(short.smoothed().values, short.values)


def test_series_leaves_out_null_and_missing():
    rows = [{"step": 1, "a": 2.0}, {"step": 2, "a": None}, {"step": 3}, {"step": 4, "a": 5}]
    series = Series.of(rows, "a")
    assert series.steps.tolist() == [1, 4] and series.values.tolist() == [2, 5]
    assert Series.of(rows, "b") is None
