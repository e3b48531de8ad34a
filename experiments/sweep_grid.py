"""The cells of a sweep: what varies, crossed with the seeds, each a whole configuration of a run."""

from __future__ import annotations

import hashlib
import itertools
import json
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from absl import flags

from experiments import flags as experiment_flags
from riskpo_jax.config import Config, from_flat, leaves, to_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.errors import UserError
from riskpo_jax.files import file_stem


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

    A run's folder is named by its variant and a digest of its settings: a run of the same settings that
    lies in `runs` under another name is taken as it is, and one of other settings never in its place.

    base: the settings that all share, not yet resolved.

    Raises:
      UserError: settings that contradict each other, naming the variant.
    """
    cells = []
    for seed, variant in itertools.product(seeds, variants):
        try:
            config = _overridden(base, (*variant.overrides, f"--seed={seed}"))
        except (flags.Error, UserError) as error:
            reason = str(error).replace("\n", " ")
            raise UserError(f"--variant={variant.name}: {reason}") from None
        mark = _digest(config)
        own = runs / f"{file_stem(variant.name)} {mark}"
        folder = next(iter(sorted(runs.glob(f"* {mark}"))), own)
        cells.append(Cell(variant.name, seed, config, folder / f"seed{seed}"))
    return cells


def _digest(config: Config) -> str:
    """Equal for configurations that compute the same but for the seed; a younger setting changes nothing.

    Of what a resumed run may change, the number of steps alone counts.
    """
    usual, own = to_flat(resolve(Config())), to_flat(config)
    free = {name for name, field, _ in leaves() if field.metadata["may_change"]} | {"seed"}
    kept = {k: v for k, v in own.items() if k == "train.steps" or k not in free}
    unusual = {k: v for k, v in kept.items() if v != usual[k]}
    return hashlib.sha256(json.dumps(unusual, sort_keys=True).encode()).hexdigest()[:8]


def _read_variant(text: str) -> Variant:
    name, colon, overrides = text.partition(":")
    name, words = name.strip(), shlex.split(overrides)
    if not colon or not name or any(not re.match("--[a-z]", word) for word in words):
        raise UserError(
            f"--variant={text!r} must be NAME: --flag=value --flag=value, or NAME: for the shared settings"
        )
    if taken := {word.partition("=")[0] for word in words} & {"--seed", "--workdir", "--flagfile"}:
        raise UserError(
            f"--variant={text!r}: {taken.pop()} is not a variant's to give: leave it out"
        )
    if name.startswith(".") or len(name) > 100:
        raise UserError(
            f"--variant={text!r}: the name of a folder cannot begin with a dot or be that long"
        )
    return Variant(name, tuple(words))


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
    return from_flat(experiment_flags.given_settings())
