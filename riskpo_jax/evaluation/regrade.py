"""Grading kept responses again: no model, no tokenizer, no device."""

from __future__ import annotations

import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from riskpo_jax.data.problem import Problem, Source
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.responses import Response
from riskpo_jax.rewards.grader import Grader
from riskpo_jax.rewards.grading import PendingOutcomes, submit_groups

Changes = Counter[tuple[str, str]]
"""How many verdicts went from one outcome kind to another."""


def find_problems(source: Source, ids: Sequence[str], dataset: str) -> list[Problem]:
    """The problems of `source` with these ids, in the order of the ids.

    Raises:
      UserError: an id that no problem has, or that two have.
    """
    known = by_id(source, dataset)
    if missing := [problem_id for problem_id in ids if problem_id not in known]:
        raise UserError(
            f"{dataset}: {len(missing)} of {len(ids)} problems that were evaluated are not there any "
            f"more, the first is {missing[0]!r}: name the data that was evaluated"
        )
    return [known[problem_id] for problem_id in ids]


def by_id(source: Source, dataset: str) -> dict[str, Problem]:
    """The problems of `source` by their ids. Raises UserError for an id that two have."""
    known: dict[str, Problem] = {}
    for index in range(len(source)):
        problem = source[index]
        if problem.id in known:
            raise UserError(f"{dataset}: two problems have the id {problem.id!r}: rename one")
        known[problem.id] = problem
    return known


def regraded(
    grader: Grader,
    problems: Sequence[Problem],
    responses: Sequence[Sequence[Response]],
    batch_size: int,
) -> Iterator[list[list[Response]]]:
    """The responses to each problem with the verdicts that `grader` gives now, batch after batch.

    Batches have `batch_size` problems; the next is submitted before one is waited for.

    Raises:
      UserError: the reward returns something else than an outcome.
    """
    waiting = None
    for start in range(0, len(problems), batch_size):
        groups = responses[start : start + batch_size]
        texts = [response.text for group in groups for response in group]
        verdicts = submit_groups(grader, problems[start : start + batch_size], texts)
        if waiting:
            yield _with_verdicts(*waiting)
        waiting = groups, verdicts
    if waiting:
        yield _with_verdicts(*waiting)


def _with_verdicts(
    groups: Sequence[Sequence[Response]], verdicts: PendingOutcomes
) -> list[list[Response]]:
    return [
        [dataclasses.replace(r, outcome=outcome) for r, outcome in zip(group, given, strict=True)]
        for group, given in zip(groups, verdicts.result(), strict=True)
    ]


def changes(before: Sequence[Sequence[Response]], after: Sequence[Sequence[Response]]) -> Changes:
    """The kinds of the verdicts that are not what they were."""
    pairs = zip(itertools.chain(*before), itertools.chain(*after), strict=True)
    kinds = ((str(old.outcome.kind), str(new.outcome.kind)) for old, new in pairs)
    return Counter((old, new) for old, new in kinds if old != new)


def describe(dataset: str, counts: Mapping[tuple[str, str], int], total: int) -> str:
    """One line for people: how many of `total` verdicts changed, from what to what."""
    text = f"{dataset}: {sum(counts.values())} of {total} verdicts changed"
    most_first = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = ", ".join(f"{old} to {new} {count}" for (old, new), count in most_first)
    return f"{text}: {parts}" if parts else text
