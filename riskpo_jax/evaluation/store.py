"""Evaluations on disk, problem by problem, so that two of them can be compared in pairs later."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np

from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.files import replacing


def path_of(directory: Path, step: int) -> Path:
    return directory / f"{step:06d}.json"


def save(directory: Path, result: EvalResult) -> None:
    """Writes `<directory>/<step>.json`, whole or not at all."""
    directory.mkdir(parents=True, exist_ok=True)
    fields = {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    plain = {k: v.tolist() if isinstance(v, np.ndarray) else v for k, v in fields.items()}
    with replacing(path_of(directory, result.step)) as path:
        path.write_text(json.dumps(plain))


def load(directory: Path, step: int) -> EvalResult | None:
    """The evaluation of `step`; None when there is none."""
    path = path_of(directory, step)
    if not path.exists():
        return None
    fields = json.loads(path.read_text())
    arrays = {k: np.array(v) for k, v in fields.items() if k.endswith("_PxS")}
    return EvalResult(**(fields | arrays))


def drop_after(directory: Path, step: int) -> None:
    """Deletes the evaluations of later steps, which a killed run left beyond its last checkpoint."""
    for path in directory.glob("*.json"):
        if path.stem.isdigit() and int(path.stem) > step:
            path.unlink()
