"""Whether RiskPO's Assumption 1 holds: `python -m experiments.assumption_1 --model=WHERE --out=DIR`.

--model is a Hugging Face directory, RUN/checkpoints/N or a run's folder, of which all checkpoints are
measured; it may be repeated. Rollout batches are sampled as in training, at each of --temperatures; the
questions of each level are measured by themselves, too. The assumption is tested at the quantiles of
--algorithm.alpha and --algorithm.beta as given, even of a run that moves these
(--algorithm.levels=adaptive), which is said.

In DIR: assumption_1.json, whose `cells` are what `riskpo_jax.diagnostics.assumption_1` says of one (model,
checkpoint, temperature, level), written anew after every policy; and a picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from absl import flags
from rich.console import Console

from experiments import flags as experiment_flags
from experiments import on_policy
from riskpo_jax.config import Config, to_flat
from riskpo_jax.data.problem import Problem
from riskpo_jax.diagnostics.assumption_1 import Settings, failures, measure
from riskpo_jax.errors import UserError
from riskpo_jax.reporting.assumption_1 import assumption_1_figure, assumption_1_tables
from riskpo_jax.reporting.measurement import (
    check_folder,
    print_whole,
    write_numbers,
    write_picture,
)
from riskpo_jax.reporting.progress import Progress
from riskpo_jax.training.advantages import ORDERS
from riskpo_jax.training.post_train import Experience

flags.adopt_module_key_flags(experiment_flags)  # so that --help lists them
_MODEL = flags.DEFINE_multi_string(
    "model", [], "A run's folder, RUN/checkpoints/N, or a Hugging Face directory; may be repeated."
)
_OUT = flags.DEFINE_string("out", None, "Folder for the JSON and the picture.")
_BATCHES = flags.DEFINE_integer("batches", 32, "Rollout batches a policy.", lower_bound=1)
_TEMPERATURES = flags.DEFINE_list(
    "temperatures", [], "Sampling temperatures; default: --rollout.temperature."
)

ALL = "all"


def main() -> None:
    console = Console()
    if not _MODEL.value:
        raise UserError("--model=WHERE is required")
    out, given = experiment_flags.required_path(_OUT), experiment_flags.given_settings()
    temperatures = experiment_flags.positive_numbers(_TEMPERATURES)
    paths = [Path(model) for model in _MODEL.value]
    sources = {path: on_policy.sources_at(path, given, _MODEL.name) for path in paths}
    for path, found in sources.items():
        config, _ = on_policy.settings_of(found[-1], given)  # before hours of another model
        if config.algorithm.levels == "adaptive":
            console.print(levels_as_given(path, config), soft_wrap=True, highlight=False)
    settings, cells = {}, []
    check_folder(out)
    names = on_policy.names_of(list(sources))
    for name, (path, found) in zip(names, sources.items(), strict=True):
        with on_policy.opened(name, found, given, out, console) as subject:
            settings[str(path)] = to_flat(subject.run.config)
            for policy in measured(subject, temperatures, console):
                cells += policy
                result = {"settings": settings, "cells": cells, "verdicts": failures(cells)}
                numbers = write_numbers(out, "assumption_1", result)
    print_whole(assumption_1_tables(result))
    for path in (numbers, write_picture(out, "assumption_1", assumption_1_figure(result))):
        console.print(path, soft_wrap=True, highlight=False)


def levels_as_given(path: Path, config: Config) -> str:
    """What to know of a policy that was trained with other levels than it is measured at."""
    alpha, beta = config.algorithm.alpha, config.algorithm.beta
    return (
        f"{path}: --algorithm.levels=adaptive moves alpha and beta in training; Assumption 1 is tested at "
        f"these levels as given, {alpha:g} and {beta:g}"
    )


def measured(
    subject: on_policy.Subject, temperatures: list[float], console: Console
) -> Iterator[list[dict[str, Any]]]:
    """The cells of one policy after the other: every checkpoint at every temperature."""
    config, count = subject.run.config, _BATCHES.value
    temperatures = temperatures or [config.rollout.temperature]
    total, done = len(subject.sources) * len(temperatures) * count, 0
    with Progress(total, console=console, unit="batch", fields=(), plain_fields=()) as progress:
        for source in subject.sources:
            weights = subject.load(source)
            for temperature in temperatures:
                experiences = []
                for experience in subject.batches(*weights, count, temperature):
                    experiences.append(experience)
                    done += 1
                    progress.update(done, {})
                about = {"model": subject.name, "step": source.step, "temperature": temperature}
                yield [about | cell for cell in cells_of(experiences, config)]


def cells_of(experiences: list[Experience], config: Config) -> Iterator[dict[str, Any]]:
    """One policy's batches at one temperature: all questions as they came, then each level's, easy first.

    A level with fewer questions than a bundle has none.
    """
    problems = [problem for e in experiences for problem in e.problems]
    rewards_MxG = np.concatenate([e.rewards_QxG() for e in experiences])
    shape = rewards_MxG.shape
    logprobs_MxG = np.concatenate([e.rollout.logprobs.sum(axis=1) for e in experiences])
    lengths_MxG = np.concatenate([e.rollout.lengths for e in experiences]).astype(np.float32)
    levels = rows_of_levels(problems)
    for level in sorted(levels, key=lambda name: (name != ALL, -rewards_MxG[levels[name]].mean())):
        rows = levels[level]
        if len(rows) >= config.algorithm.bundle_size:
            arrays = (logprobs_MxG.reshape(shape)[rows], lengths_MxG.reshape(shape)[rows])
            yield {"level": level} | measure(rewards_MxG[rows], *arrays, bundling(config))


def rows_of_levels(problems: list[Problem]) -> dict[str, np.ndarray]:
    """The numbers of all questions, and of each level's where there are several levels."""
    levels = np.array([problem.level for problem in problems])
    found = dict.fromkeys(problem.level for problem in problems)
    rows = {ALL: np.arange(len(problems))}
    if len(found) > 1:
        rows |= {level: np.flatnonzero(levels == level) for level in found}
    return rows


def bundling(config: Config) -> Settings:
    c = config.algorithm
    return Settings(
        order=ORDERS[c.bundling],
        questions_per_step=config.data.questions_per_step,
        bundle_size=c.bundle_size,
        alpha=c.alpha,
        beta=c.beta,
        omega=c.omega,
    )


if __name__ == "__main__":
    experiment_flags.run(main)
