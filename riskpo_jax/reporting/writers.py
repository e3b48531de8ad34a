"""Where the metrics of a step go: JSON lines, TensorBoard, Weights & Biases.

All writers have the same two calls: `write(step, values)` and `close()`. Values are Python, NumPy
or JAX scalars (JSON lines also take strings, lists and dicts).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from riskpo_jax.errors import UserError
from riskpo_jax.files import replacing
from riskpo_jax.reporting.files import read_jsonl


class Writer(Protocol):
    """What every writer offers."""

    def write(self, step: int, values: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


class MetricWriter:
    """Writes to each of several writers."""

    def __init__(self, *writers: Writer):
        self._writers = writers

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        for writer in self._writers:
            writer.write(step, values)

    def close(self) -> None:
        for writer in self._writers:
            writer.close()


class JsonlWriter:
    """Appends one strict-JSON object a line, `step` first, and flushes it.

    NaN and infinity become null. Opening drops a last line that a kill left half-written.
    """

    def __init__(self, path: str | os.PathLike):
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        _drop_unfinished_line(self.path)
        self._file = self._open()

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        rest = {key: value for key, value in values.items() if key != "step"}
        line = json.dumps(strict_json({"step": step, **rest}), allow_nan=False)
        self._file.write(line + "\n")
        self._file.flush()

    def truncate_after(self, step: int) -> None:
        """Drops the lines of later steps, for a run that goes on from an earlier checkpoint.

        Raises:
          UserError: a line is not a JSON object with a step (names file and line).
        """
        rows = read_jsonl(self.path)
        for number, row in enumerate(rows, start=1):
            if not isinstance(row.get("step"), int):
                raise UserError(
                    f"{self.path}:{number}: no integer 'step'; repair or delete the line"
                )
        keep = [row["step"] <= step for row in rows]
        if all(keep):
            return
        self._file.close()
        lines = self.path.read_bytes().splitlines(keepends=True)
        with replacing(self.path) as aside:
            aside.write_bytes(
                b"".join(line for line, kept in zip(lines, keep, strict=True) if kept)
            )
        self._file = self._open()

    def close(self) -> None:
        self._file.close()

    def _open(self):
        return self.path.open("a", encoding="utf-8", newline="\n")


class TensorBoardWriter:
    """Scalars as TensorBoard events under `directory`; slashes in a key make its group.

    Args:
      directory: where the event files go.
      purge_step: first step of a resumed run; TensorBoard hides the events that an earlier run left
        from there on.
    """

    def __init__(self, directory: str | os.PathLike, purge_step: int | None = None):
        import tensorboardX  # slow to import: it loads torch where that is installed

        self._writer = tensorboardX.SummaryWriter(
            str(directory), purge_step=purge_step, flush_secs=10
        )

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        for key, value in _numbers(values).items():
            self._writer.add_scalar(key.replace("@", "_at_"), value, step)  # tags may not hold "@"

    def close(self) -> None:
        self._writer.close()


def require_wandb() -> None:
    """Raises UserError when wandb is not installed."""
    if importlib.util.find_spec("wandb") is None:
        raise UserError(
            "--report.wandb needs wandb, which is not installed: `pip install wandb`, or leave it off"
        )


class WandbWriter:
    """Scalars to Weights & Biases; a run with the same id is continued.

    Raises:
      UserError: wandb is not installed.
    """

    def __init__(
        self,
        project: str,
        run_id: str,
        directory: str | os.PathLike,
        config: Mapping[str, Any] | None = None,
    ):
        require_wandb()
        import wandb

        self._run = wandb.init(
            project=project,
            id=run_id,
            dir=str(directory),
            config=dict(config or {}),
            resume="allow",
        )

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        self._run.log(_numbers(values), step=step)

    def close(self) -> None:
        self._run.finish()


def strict_json(value: Any) -> Any:
    """`value` as what strict JSON can hold: NaN and infinity become null."""
    if isinstance(value, Mapping):
        return {str(key): strict_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [strict_json(item) for item in value]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not hasattr(value, "tolist"):  # neither a NumPy nor a JAX value
        raise TypeError(f"a {type(value).__name__} cannot be written as JSON")
    return strict_json(np.asarray(value).tolist())


def _numbers(values: Mapping[str, Any]) -> dict[str, float]:
    """The finite numbers among `values`, without `step`."""
    plain = strict_json(values)
    return {
        key: float(value)
        for key, value in plain.items()
        if key != "step" and isinstance(value, int | float)
    }


def _drop_unfinished_line(path: Path) -> None:
    if path.exists():
        finished = path.read_bytes().rfind(b"\n") + 1
        os.truncate(path, finished)
