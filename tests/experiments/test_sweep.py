import dataclasses
import json
import os
import signal
import sys
import time

import pytest

from experiments import sweep, sweep_grid, sweep_runs
from experiments.sweep_grid import Cell, make_cells, read_variants
from experiments.sweep_runs import make_slots, only_one
from riskpo_jax import config as config_lib
from riskpo_jax.config import Config
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
        (["a: --train.steps=3 -- --train.epochs=2"], [], "must be NAME: --flag=value"),
        (["a: --seed=3"], [], "--seed is not a variant's to give"),
        (["..:"], [], "name of a folder"),
        (["a" * 101 + ":"], [], "name of a folder"),
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
    free = "--model.remat=all"  # changes nothing that is computed
    same = read_variants([f"same: --algorithm.omega=1 {free}", "other:"], [])
    taken, other = make_cells(BASE, same, [0], tmp_path)
    assert taken.path == old.path and other.path.parent != old.path.parent
    [another_seed] = make_cells(BASE, same[:1], [1], tmp_path)
    assert another_seed.path == old.path.with_name("seed1")


def test_runs_of_other_settings_have_other_folders(tmp_path):
    """The same variant in a longer sweep neither takes nor extends what is there."""
    variants = read_variants(["a:"], [])
    [short] = make_cells(BASE, variants, [0], tmp_path)
    longer = dataclasses.replace(BASE, train=dataclasses.replace(BASE.train, steps=1000))
    [long] = make_cells(longer, variants, [0], tmp_path)
    assert short.path != long.path


def test_a_setting_at_its_default_does_not_count(monkeypatch, tmp_path):
    """So one that is added later, with the default that did not need it, changes no folder's name."""
    variants = read_variants(["a: --algorithm.preset=grpo"], [])
    before = make_cells(BASE, variants, [0], tmp_path)
    flat = config_lib.to_flat
    monkeypatch.setattr(sweep_grid, "to_flat", lambda c: flat(c) | {"train.younger": 3})
    assert make_cells(BASE, variants, [0], tmp_path) == before


# ------------------------------------------------------------------------------------------ the runs

# Stands in for experiments.run: what it does is what its seed says.
RUN = """
import json, os, pathlib, sys, time
path = pathlib.Path(sys.argv[-1].removeprefix("--workdir="))
deed = path.parent.name.split()[0]
path.mkdir(exist_ok=True)
cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
seen = {"cores": cores, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "pid": os.getpid()}
(path / "seen.json").write_text(json.dumps(seen))
if deed == "fails":
    print("some words")
    sys.exit("error: no luck")
if deed == "hangs":
    time.sleep(60)
(path / "metrics.jsonl").write_text(json.dumps({"step": 200}) + "\\n")
(path / "eval.jsonl").write_text(json.dumps({"step": 200}) + "\\n")
(path / "model").mkdir()
"""


@pytest.fixture
def cells(monkeypatch, tmp_path):
    """cells(*variants): a cell for each, of runs that are stand-ins."""
    monkeypatch.setattr(sweep_runs, "RUN", (sys.executable, "-c", RUN))

    def cells(*names: str) -> list[Cell]:
        texts = [f"{name}: --algorithm.omega={n}" for n, name in enumerate(names)]
        return make_cells(BASE, read_variants(texts, []), [0], tmp_path)

    return cells


@pytest.fixture
def run_all(tmp_path):
    """run_all(cells, jobs, gpus_per_run): as a sweep does it, holding the lock."""

    def run_all(cells, jobs=1, gpus_per_run=0):
        with only_one(tmp_path) as lock:
            yield from sweep_runs.run_all(cells, make_slots(jobs, gpus_per_run), lock)

    return run_all


def seen(cell: Cell) -> dict:
    return json.loads((cell.path / "seen.json").read_text())


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_one_that_fails_does_not_stop_the_others(cells, run_all):
    fails, works = cells("fails", "works")
    assert list(run_all([fails, works])) == [fails, works]
    assert sweep_runs.is_finished(works) and not sweep_runs.is_finished(fails)
    assert sweep_runs.last_words(fails) == "error: no luck"


def test_runs_get_the_whole_configuration_and_their_share(cells, run_all, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6,7")
    first, second = cells("one", "two")
    list(run_all([first, second], jobs=2, gpus_per_run=2))
    assert {seen(first)["gpus"], seen(second)["gpus"]} == {"4,5", "6,7"}
    if len(os.sched_getaffinity(0)) > 1:
        assert not set(seen(first)["cores"]) & set(seen(second)["cores"])
    assert "--seed=0\n" in first.beside(".flags").read_text()


def test_more_jobs_than_cores_share_them_evenly(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {3, 8}, raising=False)
    assert [slot.cores for slot in make_slots(3, 0)] == [(3,), (8,), (3,)]
    assert [slot.cores for slot in make_slots(1, 0)] == [(3, 8)]


def test_too_few_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2")
    with pytest.raises(UserError, match="needs 4 GPUs, but CUDA_VISIBLE_DEVICES=0,1,2"):
        make_slots(2, 2)


def test_the_seconds_of_all_attempts_add_up(cells, run_all):
    [cell] = cells("fails")
    assert sweep_runs.seconds_spent(cell) == 0
    list(run_all([cell]))
    first = sweep_runs.seconds_spent(cell)
    list(run_all([cell]))
    assert sweep_runs.seconds_spent(cell) > first > 0


@pytest.mark.parametrize("name", ["metrics.jsonl", "eval.jsonl"])
def test_a_run_short_of_its_last_step_or_evaluation_is_not_finished(cells, run_all, name):
    [cell] = cells("works")
    list(run_all([cell]))
    (cell.path / name).write_text(json.dumps({"step": 100}) + "\n")
    assert not sweep_runs.is_finished(cell)
    (cell.path / name).write_text("{\n")
    assert not sweep_runs.is_finished(cell)


def test_a_second_sweep_on_the_same_runs_is_refused(tmp_path):
    with only_one(tmp_path):
        with pytest.raises(UserError, match="another sweep runs in"):
            with only_one(tmp_path):
                pass
    with only_one(tmp_path):
        pass


def test_runs_end_with_the_sweep_and_their_seconds_count(cells, run_all):
    [cell] = cells("hangs")

    def interrupt(*_):
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    runs = run_all([cell])
    signal.setitimer(signal.ITIMER_REAL, 3.0)
    try:
        with pytest.raises(KeyboardInterrupt):
            next(runs)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
    assert not is_alive(seen(cell)["pid"])
    assert sweep_runs.seconds_spent(cell) > 2


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


def test_a_folder_that_cannot_be_made_is_one_line(call, tmp_path):
    (tmp_path / "file").touch()
    status, _, error = call(sweep, "--variant=a:", f"--workdir={tmp_path / 'file' / 'sweep'}")
    assert status == 1 and "cannot be made: Not a directory" in error and error.count("\n") == 1


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

    [metrics] = (tmp_path / "sweep/runs").glob("whole */seed3/metrics.jsonl")
    before = metrics.stat().st_mtime
    report.unlink()
    again = shell("experiments.sweep", *arguments, "--report_only")
    assert again.returncode == 1 and "1 of 2 runs did not finish" in again.stderr
    assert "| whole | 1 of 1 |" in report.read_text()
    assert metrics.stat().st_mtime == before


def test_a_sweep_that_is_terminated_takes_its_runs_along(start, small_run, tmp_path):
    arguments = [*small_run, "--seeds=3", "--variant=whole:", f"--workdir={tmp_path}"]
    with start("experiments.sweep", *arguments, PAUSE="1") as process:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("runs/whole */seed3/config.json")):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.2)
        process.terminate()
        assert process.wait(60) == 143
    with only_one(tmp_path / "runs"):  # which its runs would hold
        pass
