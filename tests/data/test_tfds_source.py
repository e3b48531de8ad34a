"""GSM8K and MATH by way of tensorflow-datasets, which needs no TensorFlow."""

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from riskpo_jax.data.named import NAMED, TFDS_SPLITS, read_named
from riskpo_jax.data.tfds_source import TfdsSource, prepared_split
from riskpo_jax.errors import UserError

ROOT = Path(__file__).parents[2]


def write(folder, name, count=12):
    rows = [
        {
            "id": f"{name}-{i}",
            "problem": f"Größe {i}\u2028?",
            "answer": str(i),
            "level": i % 5 + 1,
            "subject": "Algebra",
        }
        for i in range(count)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / NAMED[name].files[0]).write_text(text, encoding="utf-8")


def problems(source):
    return [source[i] for i in range(len(source))]


@pytest.mark.parametrize("name", TFDS_SPLITS)
def test_the_problems_are_those_of_the_named_sets(name, tmp_path, capfd):
    for named in TFDS_SPLITS[name].values():
        write(tmp_path, named)
    for split, named in TFDS_SPLITS[name].items():
        source = TfdsSource(name, split, tmp_path)
        assert problems(source) == read_named(NAMED[named], tmp_path)
        with pytest.raises(IndexError):
            source[12]
        assert prepared_split(NAMED[named], tmp_path) == (name, split)
    assert capfd.readouterr().out == ""
    with pytest.raises(UserError, match=f"tfds:{name}:validation: the splits are train, test"):
        TfdsSource(name, "validation", tmp_path)


def test_it_is_prepared_once_and_then_needs_no_raw_files(tmp_path):
    write(tmp_path, "gsm8k")
    first = problems(TfdsSource("gsm8k", "train", tmp_path))
    files = {path: path.stat().st_mtime_ns for path in (tmp_path / "tfds").rglob("*.array_record*")}
    (tmp_path / NAMED["gsm8k"].files[0]).unlink()
    assert problems(TfdsSource("gsm8k", "train", tmp_path)) == first
    assert files and files == {path: path.stat().st_mtime_ns for path in files}
    with pytest.raises(UserError, match="was prepared without it: remove that folder"):
        TfdsSource("gsm8k", "test", tmp_path)
    assert prepared_split(NAMED["math"], tmp_path) is None


def test_absent_raw_files_are_named_and_leave_nothing(tmp_path):
    with pytest.raises(UserError, match="there is no .*gsm8k_train.jsonl: get .*https://"):
        TfdsSource("gsm8k", "train", tmp_path)
    assert list(tmp_path.rglob("*.array_record*")) == []
    assert prepared_split(NAMED["gsm8k"], tmp_path) is None


def test_a_folder_that_cannot_be_written_to(tmp_path):
    write(tmp_path, "gsm8k")
    (tmp_path / "tfds").write_text("in the way")
    with pytest.raises(UserError, match="tfds:gsm8k: cannot be prepared in .*--data.folder"):
        TfdsSource("gsm8k", "train", tmp_path)


def test_threads_read_the_same(tmp_path):
    write(tmp_path, "gsm8k", 200)
    source = TfdsSource("gsm8k", "train", tmp_path)
    expected = problems(source)
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(source.__getitem__, range(200))) == expected


def test_tensorflow_is_never_imported(tmp_path):
    write(tmp_path, "gsm8k")
    program = (
        "import sys; from pathlib import Path; from riskpo_jax.data.tfds_source import TfdsSource; "
        "source = TfdsSource('gsm8k', 'train', Path(sys.argv[1])); "
        "print(source[0].text, len(source), 'tensorflow' in sys.modules)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["12", "False"]
