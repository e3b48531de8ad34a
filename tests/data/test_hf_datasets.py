"""Files and hub names by way of Hugging Face's datasets."""

import builtins
import json

import pytest

from riskpo_jax.data.hf_datasets import HubSource
from riskpo_jax.errors import UserError

ROWS = [{"question": f"{n} + {n}?", "final_answer": 2 * n, "topic": "sums"} for n in range(5)]
COLUMNS = {"problem": "question", "answer": "final_answer"}


def test_the_missing_package_is_named_with_its_remedy(monkeypatch):
    real = builtins.__import__

    def no_datasets(name, *args, **kwargs):
        if name == "datasets":
            raise ImportError("No module named 'datasets'")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", no_datasets)
    with pytest.raises(UserError, match=r"pip install 'riskpo_jax\[datasets\]'"):
        HubSource("x.parquet", None, "train")


class TestInstalled:
    """With the library itself, its cache in a folder of the test."""

    @pytest.fixture(autouse=True)
    def installed(self, monkeypatch, tmp_path):
        datasets = pytest.importorskip("datasets", reason="the datasets extra is not installed")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
        monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)

    def write(self, folder, ending):
        folder.mkdir(exist_ok=True)
        file = folder / f"sums.{ending}"
        if ending == "parquet":
            parquet = pytest.importorskip("pyarrow.parquet")
            import pyarrow

            parquet.write_table(pyarrow.Table.from_pylist(ROWS), file)
        else:
            file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
        return file

    @pytest.mark.parametrize("ending", ["parquet", "json", "jsonl"])
    def test_a_file(self, ending, tmp_path):
        source = HubSource(str(self.write(tmp_path, ending)), None, "train", COLUMNS)
        assert len(source) == 5
        problem = source[3]
        assert (problem.id, problem.text, problem.answer) == ("sums-3", "3 + 3?", "6")
        assert problem.dataset == "sums" and problem.metadata == {"topic": "sums"}
        for outside in (-1, 5):
            with pytest.raises(IndexError):
                source[outside]

    def test_a_folder_with_splits(self, tmp_path):
        folder = tmp_path / "mine"
        self.write(folder, "parquet").rename(tmp_path / "mine" / "test-0.parquet")
        self.write(folder, "parquet").rename(tmp_path / "mine" / "train-0.parquet")
        source = HubSource(str(folder), None, "test", COLUMNS)
        assert len(source) == 5 and source[1].id == "mine-1"
        with pytest.raises(UserError, match="cannot load split validation .*validation"):
            HubSource(str(folder), None, "validation", COLUMNS)

    def test_a_name_of_a_hub_that_cannot_be_reached_is_one_line(self):
        with pytest.raises(UserError, match="datasets:openai/gsm8k: cannot load split") as caught:
            HubSource("openai/gsm8k", "main", "train")
        assert "\n" not in str(caught.value)

    def test_a_part_of_a_split_and_one_without_rows(self, tmp_path):
        folder = tmp_path / "mine"
        self.write(folder, "parquet")
        assert len(HubSource(str(folder), None, "train[:2]", COLUMNS)) == 2
        with pytest.raises(UserError, match=r"cannot load split .* no data"):
            HubSource(str(folder), None, "train[:0]", COLUMNS)

    def test_an_absent_file_is_not_looked_for_on_the_hub(self):
        with pytest.raises(UserError, match="datasets:absent/x.parquet: there is no such file"):
            HubSource("absent/x.parquet", None, "train")

    def test_a_row_without_a_field_is_named(self, tmp_path):
        with pytest.raises(UserError, match="sums, row 0: the field 'problem' is missing"):
            HubSource(str(self.write(tmp_path, "jsonl")), None, "train")
