"""The folder of a run: who made it, with which settings, and the files that grow in it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from riskpo_jax.config import Config, to_flat
from riskpo_jax.config_resume import check_resumable
from riskpo_jax.errors import UserError
from riskpo_jax.files import replacing
from riskpo_jax.reporting.writers import (
    JsonlWriter,
    MetricWriter,
    TensorBoardWriter,
    WandbWriter,
    Writer,
)


class RunDir:
    """Paths inside the folder of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.config = self.path / "config.json"
        self.flags = self.path / "run.flags"
        self.checkpoints = self.path / "checkpoints"
        self.evaluations = self.path / "evaluations"
        self.model = self.path / "model"
        self.adapter = self.path / "adapter"

    def check(self, config: Config) -> None:
        """Whether a run of `config` may begin or go on here; writes nothing.

        Raises:
          UserError: a setting that differs from the recorded run's, or a folder of something else.
        """
        if self.config.exists():
            check_resumable(read_config(self.config), config)
        elif self.path.exists() and not _is_empty_folder(self.path):
            raise UserError(
                f"--workdir={self.path} is no empty folder and holds no run (no config.json): give "
                "another"
            )

    def claim(self, config: Config, flagfile: str) -> None:
        """Records the settings of the run that begins or goes on here.

        Raises:
          UserError: as `check`, or a folder that cannot be made.
        """
        self.check(config)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--workdir={self.path} cannot be made: {error.strerror}") from error
        with replacing(self.config) as aside:  # first: it marks the folder as claimed
            aside.write_text(json.dumps(to_flat(config), indent=1) + "\n")
        with replacing(self.flags) as aside:
            aside.write_text(flagfile)


@dataclass(frozen=True)
class RunFiles:
    """Where the rows of a run go; by default nowhere. `curves` are those of `metrics` that draw."""

    metrics: Writer = MetricWriter()
    curves: Writer = MetricWriter()
    samples: Writer = MetricWriter()
    evals: Writer = MetricWriter()

    @classmethod
    def open(cls, directory: RunDir, config: Config, step: int) -> RunFiles:
        """Those of a run that goes on after `step`; what a killed run wrote beyond it is dropped."""
        curves: list[Writer] = []
        if config.report.tensorboard:
            curves.append(TensorBoardWriter(directory.path / "tensorboard", purge_step=step + 1))
        if config.report.wandb:
            name = directory.path.resolve().name
            curves.append(WandbWriter("riskpo_jax", name, directory.path, to_flat(config)))
        metrics = JsonlWriter(directory.path / "metrics.jsonl")
        metrics.truncate_after(step)
        samples = JsonlWriter(directory.path / "samples.jsonl")
        samples.truncate_after(step)
        evals = JsonlWriter(directory.path / "eval.jsonl")
        evals.truncate_after(step - 1)  # the evaluation of `step` itself is written again
        return cls(MetricWriter(metrics, *curves), MetricWriter(*curves), samples, evals)

    def close(self) -> None:
        for writer in (self.metrics, self.samples, self.evals):
            writer.close()


def read_config(path: Path) -> dict:
    """The recorded settings of a run, dotted name -> value.

    Raises:
      UserError: a file that is not there, does not parse, or records something else.
    """
    try:
        settings = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: no settings can be read ({error}): give another --workdir"
        ) from error
    if not isinstance(settings, dict) or "train.steps" not in settings:
        raise UserError(f"{path}: these are not the settings of a run: give another --workdir")
    return settings


def _is_empty_folder(path: Path) -> bool:
    """Hidden files do not count: a kill while claiming leaves one."""
    return path.is_dir() and all(entry.name.startswith(".") for entry in path.iterdir())
