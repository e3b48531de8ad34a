"""The folder of a run: claimed by one configuration, continued by the same, refused to others."""

import json

import pytest

from riskpo_jax.config import from_flat, to_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.errors import UserError
from riskpo_jax.reporting import run_dir
from riskpo_jax.reporting.files import read_jsonl
from riskpo_jax.reporting.run_dir import RunDir, RunFiles, read_config


def make_config(**changes):
    quiet = {"report.tensorboard": False}
    return resolve(from_flat(quiet | {k.replace("__", "."): v for k, v in changes.items()}))


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_new_folder_records_the_settings(tmp_path):
    directory, config = RunDir(tmp_path / "runs" / "a"), make_config(algorithm__alpha=0.1)
    directory.claim(config, "--some=flags\n")
    assert from_flat(read_config(directory.config)) == config
    assert directory.flags.read_text() == "--some=flags\n"
    assert sorted(contents(directory.path)) == ["config.json", "run.flags"]


def test_the_same_settings_continue_and_more_steps_are_recorded(tmp_path):
    directory = RunDir(tmp_path)
    directory.claim(make_config(train__steps=5), "old")
    before = contents(tmp_path)
    directory.claim(make_config(train__steps=5), "old")
    assert contents(tmp_path) == before
    directory.claim(make_config(train__steps=9), "new")
    assert read_config(directory.config)["train.steps"] == 9
    assert directory.flags.read_text() == "new"


def test_other_settings_are_refused_and_leave_the_record_alone(tmp_path):
    directory = RunDir(tmp_path)
    directory.claim(make_config(), "old")
    before = contents(tmp_path)
    for refuse in (directory.check, lambda config: directory.claim(config, "new")):
        with pytest.raises(UserError, match=r"--algorithm\.omega is 0\.75 .* made with 0\.5"):
            refuse(make_config(algorithm__omega=0.75))
    assert contents(tmp_path) == before


def test_checking_writes_nothing(tmp_path):
    RunDir(tmp_path / "a").check(make_config())
    assert not list(tmp_path.iterdir())


def test_an_empty_folder_is_taken_and_hidden_files_do_not_count(tmp_path):
    (tmp_path / ".gitkeep").touch()
    RunDir(tmp_path).claim(make_config(), "flags")
    assert read_config(tmp_path / "config.json") == to_flat(make_config())


@pytest.mark.parametrize("name", ["notes.txt", "run.flags"])
def test_a_folder_of_something_else_is_refused(tmp_path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(UserError, match=r"--workdir=.*holds no run.*give another"):
        RunDir(tmp_path).claim(make_config(), "flags")
    assert contents(tmp_path) == {name: b"mine"}


def test_a_file_is_no_folder(tmp_path):
    file = tmp_path / "file"
    file.write_text("mine")
    for path in (file, file / "below"):
        with pytest.raises(UserError, match=f"--workdir={path}"):
            RunDir(path).claim(make_config(), "flags")
    assert file.read_text() == "mine"


@pytest.mark.parametrize("text", ["{", "[1]", '{"architectures": ["Qwen2ForCausalLM"]}'])
def test_a_config_json_of_something_else_is_named(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(UserError, match=r"config\.json: .*--workdir"):
        RunDir(tmp_path).check(make_config())


@pytest.mark.parametrize("writes", [0, 1])
def test_a_kill_while_claiming_leaves_a_folder_that_can_be_claimed(tmp_path, monkeypatch, writes):
    """The process dies before its (writes + 1)-th rename; the file beside is left behind."""

    class Killed(BaseException):
        pass

    left, replacing = [None] * writes, run_dir.replacing

    def killed(path):
        if left:
            left.pop()
            return replacing(path)
        (path.parent / f".{path.name}.1.tmp").write_text("half")
        raise Killed

    directory = RunDir(tmp_path)
    monkeypatch.setattr(run_dir, "replacing", killed)
    with pytest.raises(Killed):
        directory.claim(make_config(), "flags")
    monkeypatch.undo()
    directory.claim(make_config(), "flags")
    assert read_config(directory.config) == to_flat(make_config())
    assert directory.flags.read_text() == "flags"


def open_at(tmp_path, step) -> RunFiles:
    return RunFiles.open(RunDir(tmp_path), make_config(), step)


def steps_of(path):
    return [row["step"] for row in read_jsonl(path)]


def test_going_on_after_a_step_drops_what_a_killed_run_wrote_beyond_it(tmp_path):
    files = open_at(tmp_path, 0)
    for step in (0, 2, 4):
        files.evals.write(step, {"dataset": "a"})
    for step in range(1, 6):
        files.metrics.write(step, {"x": step})
        files.samples.write(step, {"response": "1"})
        files.samples.write(step, {"response": "2"})
    files.close()
    with (tmp_path / "metrics.jsonl").open("a") as torn:
        torn.write('{"step": 6, "x"')

    open_at(tmp_path, 4).close()
    assert steps_of(tmp_path / "metrics.jsonl") == [1, 2, 3, 4]
    assert steps_of(tmp_path / "samples.jsonl") == [1, 1, 2, 2, 3, 3, 4, 4]
    # The loop writes the evaluation of the step it starts from again, so the old one must go.
    assert steps_of(tmp_path / "eval.jsonl") == [0, 2]

    files = open_at(tmp_path, 0)
    files.metrics.write(1, {"x": 7})
    files.close()
    assert json.loads((tmp_path / "metrics.jsonl").read_text()) == {"step": 1, "x": 7}
    assert not steps_of(tmp_path / "samples.jsonl") and not steps_of(tmp_path / "eval.jsonl")
