"""`python -m experiments.evaluate --regrade=DIR`: the kept responses before the graders of today."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from experiments import flags as experiment_flags
from riskpo_jax.config import Config, from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.data.problem import Problem, Source
from riskpo_jax.data.sources import make_eval_sources, rewards_named
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.regrade import changes, describe, find_problems, regraded
from riskpo_jax.evaluation.responses import (
    Response,
    is_plain,
    lines_of,
    responses_by_problem,
    result_of,
)
from riskpo_jax.evaluation.table import evaluation_tables
from riskpo_jax.reporting.evaluation_dir import MODEL, EvaluationDir
from riskpo_jax.reporting.progress import Progress
from riskpo_jax.rewards.grader import Grader
from riskpo_jax.rewards.grading import refuse_all_errors
from riskpo_jax.rewards.registry import make_grader

_TAKES = ("reward.", "data.folder", "data.path", "data.eval_path", "eval.k")
_FIELDS = (("set", "dataset", "s"),)


@dataclass(frozen=True)
class Kept:
    """What was answered to the problems of one set, row by row."""

    problems: Sequence[Problem]
    responses: Sequence[Sequence[Response]]


def regrade_folder(folder: Path, console: Console) -> None:
    """Grades the responses in `folder` by its recorded settings and those given, and says what changed.

    Raises:
      UserError: no finished evaluation, a setting that would need a model, problems that are not there,
        or a reward that fails on a whole set. Nothing is changed then.
    """
    directory = EvaluationDir(folder)
    recorded = directory.recorded()
    model, step = recorded.pop(MODEL), directory.finished_rows()[0]["step"]
    config = resolve(from_flat(recorded | given_settings()))
    before = {
        name: read_kept(directory, name, source, config.eval.samples)
        for name, source in make_eval_sources(config).items()
    }
    rewards = rewards_named(config, training=False)
    with contextlib.closing(make_grader(config.reward, rewards)) as grader:
        after = grade(grader, before, config, console)
    results = [
        result_of(name, kept.problems, after[name], step=step, plain=is_plain(config.eval))
        for name, kept in before.items()
    ]
    rows = [row for result in results for row in result.summary(config.eval.k)]
    lines = {name: lines_of(kept.problems, after[name]) for name, kept in before.items()}
    directory.write(model, config, rows, lines)
    for table in evaluation_tables(results, config.eval.k, console.width):
        console.print(table)
    for name, kept in before.items():
        total = len(kept.problems) * config.eval.samples
        changed = describe(name, changes(kept.responses, after[name]), total)
        console.print(changed, soft_wrap=True, highlight=False)


def given_settings() -> dict:
    """The settings of the command line.

    Raises:
      UserError: one that says how responses come about.
    """
    given = experiment_flags.given_settings()
    for name in given:
        if not name.startswith(_TAKES):
            raise UserError(
                f"--{name} contradicts --regrade, where the responses are given; it takes --reward.*, "
                "--data.folder, --data.path, --data.eval_path and --k"
            )
    return given


def read_kept(directory: EvaluationDir, name: str, source: Source, samples: int) -> Kept:
    """The responses to a set and, by their ids, the problems."""
    file = directory.responses(name)
    grouped = responses_by_problem(directory.response_rows(name), samples, str(file))
    problems = find_problems(source, [problem_id for problem_id, _ in grouped], name)
    return Kept(problems, [responses for _, responses in grouped])


def grade(
    grader: Grader, before: Mapping[str, Kept], config: Config, console: Console
) -> dict[str, list[list[Response]]]:
    """The responses to each set with new verdicts."""
    after: dict[str, list[list[Response]]] = {}
    total, done = sum(len(kept.problems) for kept in before.values()), 0
    shown = {"unit": "problems", "fields": _FIELDS, "plain_fields": _FIELDS, "interval": 1}
    with Progress(total, console=console, **shown) as progress:
        for name, kept in before.items():
            after[name] = []
            size = config.eval.batch_size
            for batch in regraded(grader, kept.problems, kept.responses, size):
                after[name] += batch
                done += len(batch)
                progress.update(done, {"dataset": name})
            refuse_all_errors([[r.outcome for r in group] for group in after[name]])
    return after
