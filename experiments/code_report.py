"""Shows that programs are graded as they should be: `python -m experiments.code_report --folder=DATA`.

Three tables: the attacks on the grading, one after the other, and what each did to the machine; the
reference solutions of the data files in DATA, which must pass; how many programs a second are graded.
Takes --reward.workers, --reward.code_timeout_s and --reward.code_memory_mb. Exit status 1: an attack was
graded correct, ended otherwise than it should, or harmed something; or a reference solution failed though
its tests can be turned into calls and it needs the standard library only.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from absl import flags
from rich.console import Console
from rich.table import Table

from experiments import flags as experiment_flags
from riskpo_jax.config import RewardConfig
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.attacks import ATTACKS
from riskpo_jax.rewards.attacks.scene import PATIENT_S, SHORT_S, attacked, scene
from riskpo_jax.rewards.code import CodeGrader
from riskpo_jax.rewards.suite import unsupported

_FOLDER = flags.DEFINE_string(
    "folder", None, "Folder with humaneval.jsonl, mbpp.jsonl, leetcode_*."
)

TAKES = ("reward.workers", "reward.code_timeout_s", "reward.code_memory_mb")
ATTACK_MEMORY_MB = 192  # less than the programs of a run get, so that bombs burst earlier
PROGRAMS = 500
WIDTH = 110  # of the tables, where the output is no wide terminal
NO_LIBRARY = "ModuleNotFoundError"  # a solution that wants more than the standard library
REFERENCES: dict[str, tuple[str, Callable[[dict], str]]] = {
    "humaneval": ("task_id", lambda row: row["canonical_solution"]),
    "mbpp": ("task_id", lambda row: _fenced(row["code"])),
    "leetcode_test": ("id", lambda row: _fenced(row["solution"])),
    "leetcode_train": ("id", lambda row: _fenced(row["solution"])),
}


def main() -> None:
    experiment_flags.refuse_settings(*TAKES)
    reward = experiment_flags.config_from_flags().reward
    workers = reward.workers or os.cpu_count() or 1
    folder = experiment_flags.required_path(_FOLDER)
    files = {name: folder / f"{name}.jsonl" for name in REFERENCES}
    files = {name: path for name, path in files.items() if path.exists()}
    if not files:
        raise UserError(f"--folder={folder} has none of {', '.join(REFERENCES)} (.jsonl)")
    console = Console(width=max(WIDTH, Console().width))
    good = report_attacks(console)
    with contextlib.closing(make_grader(workers, reward)) as grader:
        good &= report_references(console, grader, files)
        report_throughput(console, grader, workers)
    if not good:
        sys.exit(1)


def make_grader(workers: int, reward: RewardConfig) -> CodeGrader:
    return CodeGrader(
        score="all",
        workers=workers,
        timeout_s=reward.code_timeout_s,
        memory_mb=reward.code_memory_mb,
    )


def report_attacks(console: Console) -> bool:
    """Whether every attack ended as it should and left the machine unharmed."""
    table = Table("attack", "outcome", "ended by", "seconds", "harm")
    good = True
    with contextlib.ExitStack() as stack:
        place = stack.enter_context(scene())
        patient, short = (
            stack.enter_context(contextlib.closing(_attacked_grader(seconds)))
            for seconds in (PATIENT_S, SHORT_S)
        )
        for attack in ATTACKS:
            verdict = attacked(patient, short, place, [attack])[attack.name]
            harm = place.harm()
            as_it_should = not verdict.outcome.correct and verdict.reason in attack.ends
            good &= as_it_should and not harm
            ended = verdict.reason if as_it_should else f"{verdict.reason} (!)"
            seconds = f"{verdict.seconds:.2f}"
            harmed = ", ".join(harm) or "none"
            table.add_row(attack.name, verdict.outcome.kind, ended, seconds, harmed)
    console.print(table)
    return good


def _attacked_grader(seconds: float) -> CodeGrader:
    return CodeGrader(score="all", workers=1, timeout_s=seconds, memory_mb=ATTACK_MEMORY_MB)


def report_references(console: Console, grader: CodeGrader, files: dict[str, Path]) -> bool:
    """Whether all reference solutions pass whose tests can be turned into calls."""
    table = Table("reference solutions", "pass", "of", "seconds", "programs/s", "others")
    good = True
    for name, path in files.items():
        key, solution = REFERENCES[name]
        rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        problems = [Problem(str(row[key]), "", "", name, metadata=row) for row in rows]
        start = time.monotonic()
        verdicts = grader.explain([solution(row) for row in rows], problems)
        seconds = time.monotonic() - start
        others = {
            problem.id: unsupported(problem) or verdict.reason
            for problem, verdict in zip(problems, verdicts, strict=True)
            if not verdict.outcome.correct
        }
        good &= all(
            unsupported(problem) or others.get(problem.id) in (None, NO_LIBRARY)
            for problem in problems
        )
        table.add_row(
            path.name,
            str(len(rows) - len(others)),
            str(len(rows)),
            *_rate(len(rows), seconds),
            "; ".join(f"{id}: {reason}" for id, reason in others.items()) or "none",
        )
    console.print(table)
    return good


def report_throughput(console: Console, grader: CodeGrader, workers: int) -> None:
    """Different programs of one line, so that starting and ending sandboxes is all there is to do."""
    table = Table("programs in sandboxes", "workers", "seconds", "programs/s")
    problem = Problem("1", "", "", "sums", metadata={"test_list": ["assert f(2) == f(2)"]})
    responses = [_fenced(f"def f(x): return x + {i}") for i in range(PROGRAMS)]
    start = time.monotonic()
    outcomes = grader.submit(responses, [problem] * PROGRAMS).result()
    seconds = time.monotonic() - start
    assert all(outcome.correct for outcome in outcomes)
    table.add_row(str(PROGRAMS), str(workers), *_rate(PROGRAMS, seconds))
    console.print(table)


def _rate(count: int, seconds: float) -> tuple[str, str]:
    return f"{seconds:.1f}", f"{count / seconds:.0f}"


def _fenced(program: Any) -> str:
    return f"```python\n{program}\n```"


if __name__ == "__main__":
    experiment_flags.run(main)
