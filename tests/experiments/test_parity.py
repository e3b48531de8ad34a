"""The program that compares a directory with transformers."""

import importlib.util
import shutil
import sys
from pathlib import Path

import pytest

from experiments import parity

GOLDEN = Path(__file__).parents[1] / "models" / "golden"
needs_torch = pytest.mark.skipif(
    importlib.util.find_spec("torch") is None, reason="compares with PyTorch"
)


@needs_torch
def test_a_good_directory_agrees(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    status, out, _ = call(parity, f"--model.path={GOLDEN / 'qwen3_tied_bf16'}", "--tokens=9")
    assert status == 0
    assert all(word in out for word in ("qwen3_tied_bf16", "float32", "192 of 192"))


@needs_torch
def test_a_difference_beyond_rounding_is_status_1(call, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(parity, "HALF", 0.0)
    directory = f"--model.path={GOLDEN / 'qwen2_tied_fp16'}"
    status, out, _ = call(parity, directory, "--model.compute_dtype=bfloat16", "--tokens=5")
    assert status == 1 and "bfloat16" in out


@pytest.mark.parametrize("missing", ["torch", "weights"])
def test_what_is_missing_is_named_in_one_line(call, monkeypatch, missing, tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(GOLDEN / "qwen2_tied_fp16", directory)
    if missing == "torch":
        monkeypatch.setitem(sys.modules, "torch", None)
        word = "pip install torch"
    else:
        (directory / "model.safetensors").unlink()
        word = str(directory)
    status, out, err = call(parity, f"--model.path={directory}")
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and word in err
