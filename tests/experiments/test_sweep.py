import json
import os
import signal
import sys
import time

import pytest

from experiments import sweep, sweep_runs
from experiments.sweep_grid import Cell, make_cells, read_variants
from riskpo_jax.config import Config, to_flat
from riskpo_jax.errors import UserError

BASE = Config()


# ------------------------------------------------------------------------------------------ the grid


def test_variants_and_grid_are_crossed():
    found = read_variants(["a: --train.steps=3", "b:"], ["algorithm.omega=0|1", "train.epochs=1|2"])
    assert len(found) == 8
    assert found[1].name == "a, omega=0, epochs=2"
    assert found[1].overrides == ("--train.steps=3", "--algorithm.omega=0", "--train.epochs=2")


def test_a_grid_alone_is_named_by_its_values():
    assert [v.name for v in read_variants([], ["algorithm.omega=0|0.5"])] == [
        "omega=0",
        "omega=0.5",
    ]


@pytest.mark.parametrize(
    "variants, grid, message",
    [
        (["a"], [], "must be NAME: --flag=value"),
        (["a: train.steps=3"], [], "must be NAME: --flag=value"),
        ([": --train.steps=3"], [], "must be NAME: --flag=value"),
        (["a:", "a: --train.steps=3"], [], "'a' occurs twice"),
        ([], ["algorithm.omega"], "must be SETTING=value|value"),
        ([], ["algorithm.omega=1||2"], "must be SETTING=value|value"),
        ([], [], "nothing varies"),
    ],
)
def test_what_cannot_be_read_is_refused(variants, grid, message):
    with pytest.raises(UserError, match=message.replace("|", r"\|")):
        read_variants(variants, grid)


def test_cells_come_seed_by_seed_each_in_a_folder_of_its_own(tmp_path):
    variants = read_variants(["a:", "b/c: --algorithm.credit=expected"], [])
    cells = make_cells(BASE, variants, [7, 8], tmp_path)
    assert [(cell.variant, cell.seed) for cell in cells] == [
        ("a", 7),
        ("b/c", 7),
        ("a", 8),
        ("b/c", 8),
    ]
    assert len({cell.path for cell in cells}) == 4
    assert all(cell.path.parent.parent == tmp_path for cell in cells)
    assert cells[1].config.algorithm.baseline == "leave_one_out"  # resolved
    assert cells[1].config.seed == 7


@pytest.mark.parametrize(
    "overrides, message",
    [
        ("--train.stepz=3", "train.stepz"),
        ("--train.steps=x", "train.steps"),
        ("--algorithm.preset=grpo --algorithm.credit=uniform", "contradicts"),
    ],
)
def test_a_variant_that_cannot_run_is_named_before_anything_runs(overrides, message, tmp_path):
    with pytest.raises(UserError, match=f"(?s)--variant=bad: .*{message}") as error:
        make_cells(BASE, read_variants([f"bad: {overrides}"], []), [0], tmp_path)
    assert "\n" not in str(error.value)


def test_a_run_of_the_same_settings_under_another_name_is_taken(tmp_path):
    [old] = make_cells(BASE, read_variants(["old: --algorithm.omega=1"], []), [0], tmp_path)
    old.path.mkdir(parents=True)
    settings = to_flat(old.config) | {"model.remat": "all"}  # changes nothing that is computed
    del settings["algorithm.levels"]  # younger than the run
    (old.path / "config.json").write_text(json.dumps(settings))
    grid = read_variants([], ["algorithm.omega=0|1"])
    other, same = make_cells(BASE, grid, [0], tmp_path)
    assert same.path == old.path and other.path != old.path
    [other_seed] = make_cells(BASE, grid[1:], [1], tmp_path)
    assert other_seed.path != old.path


def test_a_folder_of_other_settings_is_refused(tmp_path):
    variants = read_variants(["a:"], [])
    [cell] = make_cells(BASE, variants, [0], tmp_path)
    cell.path.mkdir(parents=True)
    settings = to_flat(cell.config) | {"algorithm.omega": 3.0}
    (cell.path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match="--variant=a: --algorithm.omega"):
        make_cells(BASE, variants, [0], tmp_path)


# ------------------------------------------------------------------------------------------ the runs

# Stands in for experiments.run: what it does is the name of its folder's variant.
RUN = """
import json, os, pathlib, sys, time
path = pathlib.Path(sys.argv[-1].removeprefix("--workdir="))
deed = path.parent.name
path.mkdir(exist_ok=True)
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
(path / "seen.json").write_text(json.dumps(
    {"cores": cores, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "flags": sys.argv[-2]}))
if deed == "fails":
    print("some words")
    sys.exit("error: no luck")
if deed == "hangs":
    time.sleep(60)
(path / "metrics.jsonl").write_text(json.dumps({"step": 200}) + "\\n")
(path / "model").mkdir()
"""


@pytest.fixture
def cells(monkeypatch, tmp_path):
    """cells(*variants): a cell for each, of runs that are stand-ins."""
    monkeypatch.setattr(sweep_runs, "RUN", (sys.executable, "-c", RUN))

    def cells(*names: str) -> list[Cell]:
        return make_cells(BASE, read_variants([f"{name}:" for name in names], []), [0], tmp_path)

    return cells


def test_one_that_fails_does_not_stop_the_others(cells):
    fails, works = cells("fails", "works")
    ended = {e.cell.variant: e for e in sweep_runs.run_all([fails, works], 1, 0)}
    assert ended["fails"].returncode == 1 and ended["fails"].last_words == "error: no luck"
    assert ended["works"].returncode == 0
    assert sweep_runs.is_finished(works) and not sweep_runs.is_finished(fails)


def test_runs_get_the_whole_configuration_and_their_share(cells):
    first, second = cells("one", "two")
    list(sweep_runs.run_all([first, second], 2, gpus_per_run=2))
    seen = [json.loads((cell.path / "seen.json").read_text()) for cell in (first, second)]
    assert {s["gpus"] for s in seen} == {"0,1", "2,3"}
    if hasattr(os, "sched_getaffinity") and len(os.sched_getaffinity(0)) > 1:
        assert not set(seen[0]["cores"]) & set(seen[1]["cores"])
    assert "--seed=0\n" in first.beside(".flags").read_text()


def test_the_seconds_of_all_attempts_add_up(cells):
    [cell] = cells("fails")
    assert sweep_runs.seconds_spent(cell) == 0
    first = next(sweep_runs.run_all([cell], 1, 0))
    second = next(sweep_runs.run_all([cell], 1, 0))
    assert second.seconds > first.seconds > 0
    assert sweep_runs.seconds_spent(cell) == pytest.approx(second.seconds, abs=0.1)


def test_a_run_short_of_its_last_step_is_not_finished(cells):
    [cell] = cells("works")
    list(sweep_runs.run_all([cell], 1, 0))
    (cell.path / "metrics.jsonl").write_text(json.dumps({"step": 199}) + "\n")
    assert not sweep_runs.is_finished(cell)


def test_runs_end_with_the_sweep(cells):
    [cell] = cells("hangs")
    runs = sweep_runs.run_all([cell], 1, 0)
    previous = signal.signal(signal.SIGALRM, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    began = time.monotonic()
    signal.setitimer(signal.ITIMER_REAL, 2.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(runs)
    finally:
        signal.signal(signal.SIGALRM, previous)
    assert time.monotonic() - began < 30  # it would have slept for 60


# ------------------------------------------------------------------------------------- the program


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--variant=a:"], "--workdir=DIR is required"),
        (["--variant=a:", "--baseline=b"], "--baseline=b is none of the variants: a"),
        (["--variant=a:", "--seeds=0,x"], "--seeds=0,x must be different whole numbers"),
        (["--variant=a:", "--seeds=1,1"], "--seeds=1,1 must be different whole numbers"),
        ([], "nothing varies"),
    ],
)
def test_bad_input_is_one_line(call, arguments, message, tmp_path):
    if "required" not in message:
        arguments = [*arguments, f"--workdir={tmp_path}"]
    status, _, error = call(sweep, *arguments)
    assert status == 1 and message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_sweep_fails_reports_and_goes_on(shell, small_run, tmp_path):
    """Real runs: of two variants one cannot run; the report says so, and the second call runs it alone."""
    quick = ["--train.steps=2", "--eval.every=0", "--seeds=3", "--variant=whole:"]
    lame = "--variant=lame: --reward.name=own:absent"
    arguments = [*small_run, *quick, lame, f"--workdir={tmp_path / 'sweep'}"]
    done = shell("experiments.sweep", *arguments)
    assert done.returncode == 1
    assert "1 of 2 runs did not finish" in done.stderr
    report = tmp_path / "sweep" / "report.md"
    assert "own has no function 'absent'" in report.read_text()
    assert (tmp_path / "sweep" / "curves.png").stat().st_size > 1000

    before = (tmp_path / "sweep/runs/whole/seed3/metrics.jsonl").stat().st_mtime
    report.unlink()
    again = shell("experiments.sweep", *arguments, "--report_only")
    assert again.returncode == 1 and "1 of 2 runs did not finish" in again.stderr
    assert "| whole | 1 of 1 |" in report.read_text()
    assert (tmp_path / "sweep/runs/whole/seed3/metrics.jsonl").stat().st_mtime == before
