"""Evaluations on disk, problem by problem, so that two of them can be compared in pairs later."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np

from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.files import file_stem, replacing


def path_of(directory: Path, step: int, dataset: str) -> Path:
    return directory / f"{step:06d}" / f"{file_stem(dataset)}.json"


def save(directory: Path, result: EvalResult) -> None:
    """Writes `<directory>/<step>/<dataset>.json`, whole or not at all."""
    file = path_of(directory, result.step, result.dataset)
    file.parent.mkdir(parents=True, exist_ok=True)
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    with replacing(file) as path:
        path.write_text(json.dumps(plain))


def load(directory: Path, step: int, dataset: str) -> EvalResult | None:
    """The evaluation of `step` on `dataset`; None when there is none."""
    path = path_of(directory, step, dataset)
    return _read(path) if path.exists() else None


def load_all(directory: Path) -> list[EvalResult]:
    """Every evaluation there, by step and within a step by the name of the dataset's file."""
    folders = [path for path in directory.glob("*") if path.name.isdigit()]
    folders.sort(key=lambda path: int(path.name))
    return [_read(path) for folder in folders for path in sorted(folder.glob("*.json"))]


def _read(path: Path) -> EvalResult:
    fields = json.loads(path.read_text())
    arrays = {k: np.array(v) for k, v in fields.items() if k.endswith("_PxS")}
    return EvalResult(**(fields | arrays))


def drop_after(directory: Path, step: int) -> None:
    """Deletes the evaluations of later steps, which a killed run left beyond its last checkpoint."""
    for path in directory.glob("*"):
        if path.name.isdigit() and int(path.name) > step:
            shutil.rmtree(path)
