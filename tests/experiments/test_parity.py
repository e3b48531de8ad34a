"""The program that compares a directory with transformers."""

import dataclasses
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
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_difference_beyond_rounding_is_status_1(dtype, call, monkeypatch):
    """The same model agrees, and does not with our RoPE on another base."""
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setattr(parity, "GREEDY", 2)
    directory = f"--model.path={GOLDEN / 'qwen2_tied_fp16'}"
    flags = directory, f"--model.compute_dtype={dtype}", "--tokens=9"
    status, out, _ = call(parity, *flags)
    assert status == 0 and dtype in out
    config = parity.DecoderConfig.from_directory(GOLDEN / "qwen2_tied_fp16")
    other = dataclasses.replace(config, rope_theta=config.rope_theta / 10)
    monkeypatch.setattr(parity.DecoderConfig, "from_directory", lambda _: other)
    status, out, _ = call(parity, *flags)
    assert status == 1 and dtype in out


@pytest.mark.parametrize("missing", ["torch", "weights"])
def test_what_is_missing_is_named_in_one_line(call, monkeypatch, missing, tmp_path):
    directory = tmp_path / "model"
    shutil.copytree(GOLDEN / "qwen2_tied_fp16", directory)
    if missing == "torch":
        monkeypatch.setitem(sys.modules, "torch", None)
        word = "pip install '.[parity]'"
    else:
        (directory / "model.safetensors").unlink()
        word = str(directory)
    status, out, err = call(parity, f"--model.path={directory}")
    assert (status, out) == (1, "")
    assert err.startswith("error: ") and err.count("\n") == 1 and word in err
