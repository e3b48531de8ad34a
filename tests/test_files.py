"""Renamed when whole, gone when not."""

import os
from pathlib import Path

import pytest

from riskpo_jax.files import file_stem, replacing, replacing_folder


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), replacing(path) as aside:
        aside.write_text("half")
        assert path.read_text() == "old"
        raise RuntimeError
    assert path.read_text() == "old"
    with replacing(path) as aside:
        aside.write_text("new")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def tree(folder) -> dict[str, str]:
    """Every file below a folder, hidden ones too, with its text."""
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_text() for file in files}


def test_a_new_folder_appears_whole_with_its_parents(tmp_path):
    path = tmp_path / "run" / "model"
    with replacing_folder(path) as aside:
        (aside / "a").write_text("1")
        assert not path.exists()
    assert tree(tmp_path) == {"run/model/a": "1"}


def test_nothing_of_the_old_folder_stays(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "a").write_text("old")
    (path / "stale").write_text("old")
    with replacing_folder(path) as aside:
        assert list(aside.iterdir()) == []
        (aside / "a").write_text("new")
        assert tree(path) == {"a": "old", "stale": "old"}
    assert tree(tmp_path) == {"model/a": "new"}
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_folder_leaves_the_old_one(tmp_path):
    path = tmp_path / "model"
    path.mkdir()
    (path / "a").write_text("old")
    with pytest.raises(RuntimeError), replacing_folder(path) as aside:
        (aside / "a").write_text("half")
        raise RuntimeError
    assert tree(tmp_path) == {"model/a": "old"}
    assert list(tmp_path.iterdir()) == [path]


def test_what_a_link_points_to_is_replaced(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "model").symlink_to(tmp_path / "disk")
    with replacing_folder(tmp_path / "model") as aside:
        (aside / "a").write_text("new")
    assert (tmp_path / "model").is_symlink()
    assert tree(tmp_path / "disk") == {"a": "new"}


def test_a_place_that_cannot_be_renamed_is_refused_before_any_work(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "disk").mkdir()
    monkeypatch.setattr(Path, "is_mount", lambda path: path.name == "disk")
    for place, error in ("file", "Not a directory"), ("file/model", "Not a dir"), ("disk", "mount"):
        with pytest.raises(OSError, match=error), replacing_folder(tmp_path / place):
            raise AssertionError("the work has begun")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk", "file"]
    assert (tmp_path / "file").read_text() == "mine"


@pytest.mark.parametrize("killed_at", [1, 2])
def test_the_next_call_clears_what_a_kill_left(killed_at, tmp_path, monkeypatch):
    """A kill at either rename: the old folder is still there, in its place or beside it."""

    class Killed(BaseException):
        pass

    def write(text):
        with replacing_folder(tmp_path / "model") as aside:
            (aside / "a").write_text(text)

    write("old")
    calls, rename = [], os.rename

    def killed(source, target):
        calls.append(source)
        if len(calls) == killed_at:
            raise Killed
        rename(source, target)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        patch.setattr(
            "shutil.rmtree", lambda *args, **kwargs: None
        )  # a dead process clears nothing
        with pytest.raises(Killed):
            write("lost")
    assert "old" in tree(tmp_path).values()
    write("new")
    assert tree(tmp_path) == {"model/a": "new"}


def test_any_name_is_a_file_s_name(tmp_path):
    names = [
        "aime24",
        "reasoning_gym/chain_sum",
        "jsonl:a/b.jsonl",
        "..",
        "a b",
        "a%2Fb",
        "a/b",
        "é",
    ]
    assert file_stem("aime24") == "aime24"
    for name in names:
        (tmp_path / f"{file_stem(name)}.json").touch()
    assert len(list(tmp_path.iterdir())) == len(names)
