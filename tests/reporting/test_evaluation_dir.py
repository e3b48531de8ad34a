"""The folder of an evaluation: claimed once, cut back to whole batches, rewritten whole or not at all."""

import json

import pytest

from riskpo_jax.config import Config, from_flat, to_flat
from riskpo_jax.errors import UserError
from riskpo_jax.reporting import evaluation_dir
from riskpo_jax.reporting.evaluation_dir import EvaluationDir, ResponseWriter, as_lines
from riskpo_jax.reporting.files import read_jsonl

BASE = {"eval.datasets": ["math500"], "eval.samples": 4, "eval.k": [1, 4]}


def config(**changes) -> Config:
    return from_flat(BASE | {name.replace("__", "."): value for name, value in changes.items()})


@pytest.fixture
def claimed(tmp_path) -> EvaluationDir:
    directory = EvaluationDir(tmp_path / "new" / "evaluation")
    directory.claim("models/a", config())
    return directory


def test_the_settings_are_recorded(claimed):
    assert claimed.recorded() == {"model": "models/a", **to_flat(config())}
    claimed.check("models/a", config())


@pytest.mark.parametrize(
    ("model", "changes", "named"),
    [
        ("models/b", {}, "--model is 'models/b' but .* was begun with 'models/a'"),
        ("models/a", {"eval__samples": 8}, "--eval.samples is 8 but .* with 4: give the old value"),
        ("models/a", {"eval__temperature": 0.5}, "--eval.temperature"),
        ("models/a", {"eval__datasets": ["math500", "aime24"]}, "--eval.datasets"),
        ("models/a", {"data__chat_template": "plain"}, "--data.chat_template"),
        ("models/a", {"reward__final_answer": "hashes"}, "--reward.final_answer"),
        ("models/a", {"rollout__max_response_length": 99}, "--rollout.max_response_length"),
        ("models/a", {"seed": 1}, "--seed is 1"),
    ],
)
def test_other_settings_are_refused(claimed, model, changes, named):
    with pytest.raises(UserError, match=named):
        claimed.check(model, config(**changes))


@pytest.mark.parametrize(
    "changes", [{"eval__k": [1, 2]}, {"reward__workers": 3}, {"train__steps": 9}]
)
def test_what_changes_no_response_may_change(claimed, changes):
    claimed.claim("models/a", config(**changes))
    assert claimed.recorded() == {"model": "models/a", **to_flat(config(**changes))}


def test_a_folder_of_something_else(tmp_path):
    (tmp_path / "thesis.tex").touch()
    for path in (tmp_path, tmp_path / "thesis.tex"):
        with pytest.raises(UserError, match="is no empty folder and holds no evaluation"):
            EvaluationDir(path).check("m", config())
    EvaluationDir(tmp_path / "absent").check("m", config())
    with pytest.raises(UserError, match="name the folder of an evaluation"):
        EvaluationDir(tmp_path).recorded()
    (tmp_path / "settings.json").write_text("[]")
    with pytest.raises(UserError, match="these are not the settings of an evaluation"):
        EvaluationDir(tmp_path).recorded()
    with pytest.raises(UserError, match="--output=.*x/y cannot be made"):
        (tmp_path / "x").touch()
        EvaluationDir(tmp_path / "x" / "y").claim("m", config())


def write_rows(path, count, extra=""):
    path.write_text(as_lines([{"n": n, "text": "a\u2028\x85b"} for n in range(count)]) + extra)


@pytest.mark.parametrize(
    ("count", "extra", "kept"),
    [
        (0, "", 0),
        (3, "", 0),
        (4, "", 4),
        (7, "", 4),
        (8, '{"n": 8', 8),
        (9, '{"n', 8),
        (10, "", 10),
    ],
)
def test_a_file_that_was_cut_off_goes_on_at_a_whole_batch(tmp_path, count, extra, kept):
    """Batches of 4 of 10 lines: only a finished file may end within one."""
    path, whole = tmp_path / "r.jsonl", tmp_path / "whole.jsonl"
    write_rows(path, count, extra)
    write_rows(whole, 10)
    writer = ResponseWriter(path, 4, 10)
    assert [row["n"] for row in writer.rows] == list(range(kept))
    writer.append(read_jsonl(whole)[kept:])
    writer.close()
    assert path.read_bytes() == whole.read_bytes()


def test_a_file_of_more_problems_than_there_are_is_left_alone(tmp_path):
    path = tmp_path / "r.jsonl"
    write_rows(path, 10)
    before = path.read_bytes()
    with pytest.raises(UserError, match="r.jsonl holds 10 responses where .* 8 .*another --output"):
        ResponseWriter(path, 4, 8)
    assert path.read_bytes() == before


def test_results_are_strict_json_and_come_when_all_is_done(claimed):
    with pytest.raises(UserError, match="finish the evaluation first"):
        claimed.finished_rows()
    claimed.write("models/a", config(), [{"step": 8, "entropy": float("nan")}])
    assert claimed.finished_rows() == [{"step": 8, "entropy": None}]
    assert json.loads(claimed.results.read_text())["settings"]["model"] == "models/a"


def test_new_verdicts_take_their_places_together_or_not_at_all(claimed, monkeypatch):
    first, second = claimed.responses("a"), claimed.responses("b:c/d")
    for file in (first, second):
        write_rows(file, 2)
    claimed.write("models/a", config(), [{"step": 0}])
    files = {path: path.read_bytes() for path in claimed.path.rglob("*") if path.is_file()}
    new = {"a": [{"n": 7}], "b:c/d": [{"n": 8}]}
    broken = dict(new, **{"b:c/d": [{"n": object()}]})
    with pytest.raises(TypeError):
        claimed.write("models/a", config(reward__name="math"), [{"step": 1}], broken)
    assert {p: p.read_bytes() for p in claimed.path.rglob("*") if p.is_file()} == files

    replacing, places = evaluation_dir.replacing, []

    def full(path):
        places.append(path)
        if len(places) == 4:  # the last
            raise OSError("disk full")
        return replacing(path)

    monkeypatch.setattr(evaluation_dir, "replacing", full)
    with pytest.raises(OSError):
        claimed.write("models/a", config(reward__name="math"), [{"step": 1}], new)
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in claimed.path.rglob("*") if p.is_file()} == files

    claimed.write("models/a", config(reward__name="math"), [{"step": 1}], new)
    assert claimed.response_rows("a") == [{"n": 7}] and claimed.response_rows("b:c/d") == [{"n": 8}]
    assert claimed.recorded()["reward.name"] == "math" and claimed.finished_rows() == [{"step": 1}]
    with pytest.raises(UserError, match="absent was not evaluated here"):
        claimed.response_rows("absent")
