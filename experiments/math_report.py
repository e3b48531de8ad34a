"""How good and how fast mathematics is graded: `python -m experiments.math_report`.

Prints precision and recall by category on labelled pairs (--pairs=FILE,FILE), the pairs that are graded
otherwise than labelled, the throughput of the worker pool on typical responses (made from the reference
solutions in --folder=DATA where given, else the pairs' own), and what bombs cost, one at a time.
--math_verify compares with math-verify (in the extra `test`) by itself, on the whole response.
"""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console
from rich.table import Table

from experiments import flags as experiment_flags
from riskpo_jax.data.jsonl import JsonlSource
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.labelled import Pair, count, read_pairs
from riskpo_jax.rewards.pool import PoolGrader

_PAIRS = flags.DEFINE_list(
    "pairs", [], "Files of labelled pairs; default: all in tests/rewards/math_pairs."
)
_FOLDER = flags.DEFINE_string(
    "folder", None, "Folder with math_test_rest.jsonl, gsm8k_train.jsonl."
)
_VERIFY = flags.DEFINE_bool("math_verify", False, "Show how math-verify by itself does, too.")
_RESPONSES = flags.DEFINE_integer("responses", 20_000, "Responses in the throughput measurement.")

_REWARD = "riskpo_jax.rewards.math:math_reward"
_BOMBS = {
    "9^{9^{9^9}}": "9^{9^{9^9}}",
    "10000000!": "10000000!",
    "((9!)!)!": "((9!)!)!",
    "2^{10^{10}}": "2^{10^{10}}",
    "nested powers, 40 deep": "2^{" * 40 + "2" + "}" * 40,
    "1 MB of braces": "{" * 500_000 + "5" + "}" * 500_000,
    "1 MB of unclosed boxes": "}" + r"\boxed{" * 150_000,
    r"\sqrt, 60 deep": r"\sqrt{" * 60 + "2" + "}" * 60,
    "a decimal of 1 MB": "0." + "1" * 10**6,
    "a decimal of 400 digits": "0." + "1" * 400,
    "a matrix of 40 x 40": r"\begin{pmatrix}"
    + r"\\".join(["&".join("1" * 40)] * 40)
    + r"\end{pmatrix}",
    r"\binom{10^9}{10^8}": r"\binom{10^9}{10^8}",
    r"\sum_{i=1}^{10^{10}} i": r"\sum_{i=1}^{10^{10}} i",
    r"\prod_{i=1}^{10^{10}} i": r"\prod_{i=1}^{10^{10}} i",
    r"\int_0^1 x^{x^x} dx": r"\int_0^1 x^{x^x} dx",
    r"\lfloor 10^{10^{10}} \rfloor": r"\lfloor 10^{10^{10}} \rfloor",
    r"\sin(10^{9999})": r"\sin(10^{9999})",
    "(x+1)^{100000}": "(x+1)^{100000}-(x-1)^{100000}",
    "factorials: 5!!!!!!": "5!!!!!!",
    r"\Gamma(10^9)": r"\Gamma(10^9)",
    r"\gcd of two powers": r"\gcd(2^{10^9},3^{10^9})",
    "200 nested parentheses": "(" * 200 + "x" + ")" * 200,
    "a sum of 240 terms": "+".join(["x"] * 240),
    "40 plus-minus signs": r"\pm 1" * 40,
    "100 commas": ",".join(map(str, range(100))),
}


def main() -> None:
    experiment_flags.refuse_settings()
    console = Console()
    files = [Path(name) for name in _PAIRS.value] or sorted(
        Path("tests/rewards/math_pairs").glob("*.jsonl")
    )
    if not files:
        raise UserError("there are no pairs: give --pairs=FILE, or start at the repository's root")
    workers = os.cpu_count() or 1
    started = time.monotonic()
    pool = PoolGrader(_REWARD, {}, workers=workers, timeout_s=1.0, memory_mb=1024)
    try:
        pool.start()
        console.print(
            f"{workers} workers; the first was ready in {time.monotonic() - started:.2f} s"
        )
        pairs = []
        for file in files:
            pairs += (of_file := read_pairs(file))
            _report_quality(console, file.name, of_file, pool)
            if _VERIFY.value:
                _report_math_verify(console, of_file, workers)
        _report_throughput(console, *_typical(pairs, _FOLDER.value), pool)
        _report_bombs(console, pool)
    finally:
        pool.close()


def _report_quality(console: Console, name: str, pairs: Sequence[Pair], pool: PoolGrader) -> None:
    outcomes = pool.submit([p.response for p in pairs], [p.problem for p in pairs]).result()
    counts = count(pairs, outcomes)
    table = Table("category", "pairs", "precision", "recall", title=name)
    for category, c in counts.items():
        table.add_row(category, str(c.total), f"{c.precision:.4f}", f"{c.recall:.4f}")
    console.print(table)
    _list(console, "graded correct, labelled wrong", counts["all"].false_positives)
    _list(console, "labelled correct, not graded so", counts["all"].false_negatives)


def _report_math_verify(console: Console, pairs: Sequence[Pair], workers: int) -> None:
    path = "experiments.math_verify_reward:math_verify_reward"
    pool = PoolGrader(path, {}, workers=workers, timeout_s=1.0, memory_mb=1024)
    try:
        outcomes = pool.submit([p.response for p in pairs], [p.problem for p in pairs]).result()
    finally:
        pool.close()
    c = count(pairs, outcomes)["all"]
    console.print(
        f"math-verify by itself: precision {c.precision:.4f}, recall {c.recall:.4f}, "
        f"{len(c.false_positives)} wrong responses graded correct, {pool.workers_lost} workers lost"
    )


def _list(console: Console, title: str, names: Sequence[str]) -> None:
    console.print(f"{title}: {len(names)}")
    for name in names:
        console.print(f"  {name}", highlight=False, markup=False)


def _typical(pairs: Sequence[Pair], folder: str | None) -> tuple[list[str], list[Problem]]:
    """Responses and their problems: real solutions, every other one of them to the wrong problem."""
    if folder is None:
        source = [(pair.response, pair.problem) for pair in pairs]
    else:
        problems = [
            problem
            for name in ("math_test_rest", "gsm8k_train")
            for problem in JsonlSource(Path(folder) / f"{name}.jsonl")
        ]
        boxed = [
            f"{p.metadata['solution']}\nThe answer is $\\boxed{{{p.answer}}}$." for p in problems
        ]
        step = len(problems) // 2
        source = [
            (text, problems[i if i % 2 else (i + step) % len(problems)])
            for i, text in enumerate(boxed)
        ]
    chosen = list(itertools.islice(itertools.cycle(source), _RESPONSES.value))
    return [response for response, _ in chosen], [problem for _, problem in chosen]


def _report_throughput(
    console: Console, responses: list[str], problems: list[Problem], pool: PoolGrader
) -> None:
    started = time.monotonic()
    outcomes = pool.submit(responses, problems).result()
    seconds = time.monotonic() - started
    length = sum(map(len, responses)) / len(responses)
    correct = sum(outcome.correct for outcome in outcomes) / len(outcomes)
    console.print(
        f"throughput: {len(responses)} responses of {length:.0f} characters on average, {correct:.0%} of "
        f"them correct, in {seconds:.1f} s: {60 * len(responses) / seconds:,.0f} a minute"
    )


def _report_bombs(console: Console, pool: PoolGrader) -> None:
    table = Table("bomb", "outcome", "seconds", "workers lost", title="bombs, one at a time")
    problem = Problem("bomb", "", "5", "bombs")
    for name, text in _BOMBS.items():
        lost, started = pool.workers_lost, time.monotonic()
        (outcome,) = pool.submit([f"so $\\boxed{{{text}}}$"], [problem]).result()
        seconds = time.monotonic() - started
        table.add_row(
            name.replace("[", r"\["), outcome.kind, f"{seconds:.3f}", str(pool.workers_lost - lost)
        )
    console.print(table)


if __name__ == "__main__":
    experiment_flags.run(main)
