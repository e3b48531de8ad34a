"""Precision and recall of a grader on labelled pairs: JSON Lines with what a person says of a response.

One object a line: `id` of the problem, `gold`, `response`, `correct` (true or false), `category`; optional
`dataset` (else the id up to its number). Other fields are metadata of the problem (`unit`, `tolerance`, ...).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.outcome import Outcome

_FIELDS = ("id", "gold", "response", "correct", "category", "dataset")


@dataclass(frozen=True)
class Pair:
    """A response to a problem, whether it is correct, and what kind of case it is."""

    problem: Problem
    response: str
    correct: bool
    category: str


@dataclass
class Counts:
    """Of verdicts against labels; a timeout or error is a verdict "not correct"."""

    true_positives: int = 0
    true_negatives: int = 0
    false_positives: list[str] = field(default_factory=list)
    false_negatives: list[str] = field(default_factory=list)

    @property
    def total(self) -> int:
        wrong = len(self.false_positives) + len(self.false_negatives)
        return self.true_positives + self.true_negatives + wrong

    @property
    def precision(self) -> float:
        """Of the responses graded correct, the fraction that is; 1 without any."""
        found = self.true_positives + len(self.false_positives)
        return self.true_positives / found if found else 1.0

    @property
    def recall(self) -> float:
        """Of the correct responses, the fraction graded correct; 1 without any."""
        there = self.true_positives + len(self.false_negatives)
        return self.true_positives / there if there else 1.0

    def add(self, pair: Pair, outcome: Outcome) -> None:
        name = f"{pair.problem.id}: gold {pair.problem.answer!r}, answer {outcome.answer!r}"
        match outcome.correct, pair.correct:
            case True, True:
                self.true_positives += 1
            case False, False:
                self.true_negatives += 1
            case True, False:
                self.false_positives.append(name)
            case False, True:
                self.false_negatives.append(f"{name} ({outcome.kind})")


def read_pairs(path: str | Path) -> list[Pair]:
    """The pairs of a file. Raises UserError, naming file:line, for what is no such pair."""
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").split("\n")
    except OSError as error:
        raise UserError(f"cannot read the pairs in {path} ({error.strerror})") from error
    return [_pair(line, f"{path}:{i}") for i, line in enumerate(lines, 1) if line.strip()]


def _pair(line: str, place: str) -> Pair:
    try:
        row = json.loads(line)
        label = row["correct"]
        if not isinstance(label, bool):
            raise ValueError("correct must be true or false")
        for name in ("gold", "response", "category"):
            if not isinstance(row[name], str):
                raise ValueError(f"{name} must be a text")
        dataset = row.get("dataset") or re.sub(r"[-_/]\d.*$", "", str(row["id"]))
        metadata = {name: value for name, value in row.items() if name not in _FIELDS}
        problem = Problem(str(row["id"]), "", row["gold"], dataset, metadata=metadata)
        return Pair(problem, row["response"], label, row["category"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{place}: no labelled pair ({error!r}); it needs id, gold, response, correct, category"
        ) from error


def count(pairs: Sequence[Pair], outcomes: Iterable[Outcome]) -> dict[str, Counts]:
    """Counts by category, in the order of their first pair, and over all under "all"."""
    counts: dict[str, Counts] = {}
    overall = Counts()
    for pair, outcome in zip(pairs, outcomes, strict=True):
        counts.setdefault(pair.category, Counts()).add(pair, outcome)
        overall.add(pair, outcome)
    return counts | {"all": overall}
