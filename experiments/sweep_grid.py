"""The cells of a sweep: what varies, crossed with the seeds, each a whole configuration of a run."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from absl import flags

from experiments import flags as experiment_flags
from riskpo_jax import config as config_lib
from riskpo_jax.config import Config, to_flat
from riskpo_jax.errors import UserError
from riskpo_jax.files import file_stem
from riskpo_jax.reporting.run_dir import RunDir, read_config


@dataclass(frozen=True)
class Variant:
    """A name, and the flags by which its runs differ from the sweep's own settings."""

    name: str
    overrides: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One run of the sweep: in `path`, with `<path>.flags`, `<path>.log` and `<path>.json` beside it."""

    variant: str
    seed: int
    config: Config
    path: Path

    def beside(self, suffix: str) -> Path:
        return self.path.with_name(self.path.name + suffix)


def read_variants(variants: Sequence[str], grid: Sequence[str]) -> list[Variant]:
    """Every `NAME: --flag=value ...` crossed with every combination of `SETTING=a|b|c`.

    Without variants the points of the grid are named by their values alone.

    Raises:
      UserError: a text of neither form, or a name that occurs twice.
    """
    named = [_read_variant(text) for text in variants] or [Variant("", ())]
    axes = [_read_axis(text) for text in grid]
    crossed = [
        Variant(
            ", ".join(filter(None, [variant.name, *(point.name for point in points)])),
            variant.overrides + tuple(flag for point in points for flag in point.overrides),
        )
        for variant in named
        for points in itertools.product(*axes)
    ]
    names = [variant.name for variant in crossed]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UserError(f"--variant: {repeated[0]!r} occurs twice: give each a name of its own")
    if names == [""]:
        raise UserError("nothing varies: give --variant='NAME: --flag=value ...' or --grid")
    return crossed


def make_cells(
    base: Config, variants: Sequence[Variant], seeds: Sequence[int], runs: Path
) -> list[Cell]:
    """A cell for every seed and variant, seed by seed, so that a sweep that is cut off has pairs.

    A run of the same settings that lies in `runs` under another name is taken as it is.

    base: the settings that all share, not yet resolved.

    Raises:
      UserError: settings that contradict each other, naming the variant; a folder in which a run of other
        settings lies.
    """
    cells, known = [], _known_runs(runs)
    for seed, variant in itertools.product(seeds, variants):
        own = runs / file_stem(variant.name) / f"seed{seed}"
        try:
            config = _overridden(base, (*variant.overrides, f"--seed={seed}"))
            path = own if own.exists() else known.get(_identity(to_flat(config)), own)
            RunDir(path).check(config)
        except (flags.Error, UserError) as error:
            reason = str(error).replace("\n", " ")
            raise UserError(f"--variant={variant.name}: {reason}") from None
        cells.append(Cell(variant.name, seed, config, path))
    return cells


def _known_runs(runs: Path) -> dict[str, Path]:
    """The folders of all runs there, by their settings."""
    configs = sorted(runs.glob("*/seed*/config.json"))
    return {_identity(read_config(file)): file.parent for file in configs}


def _identity(settings: Mapping[str, Any]) -> str:
    """Equal for runs that compute the same: of what a resumed run may change, the steps alone count.

    A setting that is younger than a run had its default there.
    """
    free = {name for name, field, _ in config_lib.leaves() if field.metadata["may_change"]}
    whole = to_flat(Config()) | dict(settings)
    kept = {k: v for k, v in whole.items() if k == "train.steps" or k not in free}
    return json.dumps(kept, sort_keys=True)


def _read_variant(text: str) -> Variant:
    name, colon, overrides = text.partition(":")
    words = shlex.split(overrides)
    if not colon or not name.strip() or any(not word.startswith("--") for word in words):
        raise UserError(
            f"--variant={text!r} must be NAME: --flag=value --flag=value, or NAME: for the shared settings"
        )
    return Variant(name.strip(), tuple(words))


def _read_axis(text: str) -> list[Variant]:
    """The points along one axis; `algorithm.omega=0|1` gives those named omega=0 and omega=1."""
    setting, equals, values = text.partition("=")
    if not equals or not all(values.split("|")):
        raise UserError(
            f"--grid={text!r} must be SETTING=value|value|..., such as train.epochs=1|2"
        )
    short = setting.rsplit(".", 1)[-1]
    return [Variant(f"{short}={v}", (f"--{setting}={v}",)) for v in values.split("|")]


def _overridden(base: Config, overrides: Sequence[str]) -> Config:
    values = flags.FlagValues()
    experiment_flags.define_flags(values)
    values(["sweep", *experiment_flags.as_flagfile(base).splitlines(), *overrides])
    return experiment_flags.config_from_flags(values)


def unresolved_config() -> Config:
    """What the command line says of the settings, before any preset fills in the rest."""
    return config_lib.from_flat(experiment_flags.given_settings())
