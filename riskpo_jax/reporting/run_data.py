"""What a run recorded, as series over the training step."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from riskpo_jax.reporting.files import read_jsonl


@dataclasses.dataclass(frozen=True)
class Series:
    """values[T] at steps[T]; steps where the value is missing or null are left out."""

    steps: np.ndarray
    values: np.ndarray

    @classmethod
    def of(cls, rows: Sequence[dict], key: str) -> Series | None:
        """The series of `key`, None where no row has it."""
        points = [(row["step"], row[key]) for row in rows if row.get(key) is not None]
        return cls(*np.array(points, dtype=np.float64).T) if points else None

    def smoothed(self) -> Series:
        """Centred moving average over about a twentieth of the run, narrower at the ends."""
        half = len(self.values) // 40
        kernel = np.ones(2 * half + 1)
        total = np.convolve(self.values, kernel, mode="same")
        count = np.convolve(np.ones_like(self.values), kernel, mode="same")
        return Series(self.steps, total / count)


@dataclasses.dataclass(frozen=True)
class RunData:
    """The rows of `metrics.jsonl`, and of `eval.jsonl` by dataset; a missing file has no rows."""

    metrics: list[dict]
    evals: dict[str, list[dict]]

    @classmethod
    def load(cls, workdir: Path) -> RunData:
        evals = {}
        for row in _rows(workdir / "eval.jsonl"):
            evals.setdefault(row["dataset"], []).append(row)
        return cls(_rows(workdir / "metrics.jsonl"), evals)

    def series(self, key: str) -> Series | None:
        return Series.of(self.metrics, key)

    def curves(self) -> dict[str, list[dict]]:
        """The evaluations to draw: the levels of a single dataset; of several, each as a whole."""
        whole = {name: rows for name, rows in self.evals.items() if name.endswith("/all")}
        levels = {name: rows for name, rows in self.evals.items() if name not in whole}
        return whole if len(whole) > 1 or not levels else levels


def pass_ks(rows: Iterable[dict]) -> list[int]:
    """Every k of which rows of `eval.jsonl` have pass@k, ascending."""
    keys = {key for row in rows for key in row}
    return sorted(int(found[1]) for key in keys if (found := re.fullmatch(r"pass@(\d+)", key)))


def _rows(path: Path) -> list[dict]:
    return read_jsonl(path) if path.exists() else []
