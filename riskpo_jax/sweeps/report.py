"""The report of a sweep as Markdown: what ran, what came out, what did not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from riskpo_jax.evaluation.bootstrap import Interval
from riskpo_jax.sweeps import measures
from riskpo_jax.sweeps.measures import Measure
from riskpo_jax.sweeps.outcomes import Outcomes, evaluated_datasets, evaluated_ks, values_by_seed
from riskpo_jax.sweeps.statistics import over_seeds, paired_by_seed


@dataclass(frozen=True)
class Account:
    """What the report says besides the runs' numbers.

    Attributes:
      shared: a flagfile of the settings that all runs share. flags: variant -> how its runs differ.
      failures: run -> its last words. hours: wall-clock, summed over all runs and attempts.
    """

    title: str
    shared: str
    flags: Mapping[str, str]
    seeds: Sequence[int]
    failures: Mapping[str, str]
    hours: float


def report(account: Account, outcomes: Outcomes, baseline: str) -> str:
    """The whole text, but for the pictures."""
    parts = [f"# {account.title}", *_what_ran(account, outcomes)]
    datasets, ks = evaluated_datasets(outcomes), evaluated_ks(outcomes)
    parts += _summary(measures.headline(datasets, ks), outcomes, baseline)
    parts += _section("At the end of training", measures.TRAINING, outcomes, baseline)
    for dataset in datasets:
        shown = measures.evaluation(dataset, ks)
        parts += _section(f"Evaluation: {dataset}", shown, outcomes, baseline)
    parts += ["## Shared settings", f"```\n{account.shared.strip()}\n```"]
    return "\n\n".join(parts) + "\n"


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A GitHub table; a bar in a cell is escaped."""
    lines = [header, ["---"] * len(header), *rows]
    escaped = [[cell.replace("|", r"\|") for cell in line] for line in lines]
    return "\n".join("| " + " | ".join(line) + " |" for line in escaped)


def _what_ran(account: Account, outcomes: Outcomes) -> list[str]:
    count = sum(map(len, outcomes.values()))
    seeds = ", ".join(map(str, account.seeds))
    text = [
        f"{count} runs finished, {len(account.failures)} did not; {account.hours:.2f} hours in all. "
        f"Seeds {seeds}. Brackets are 95% bootstrap intervals over seeds; differences are paired by seed, "
        "and one is **bold** where Student's t interval (parentheses), which is honest about few seeds, "
        "excludes zero. Many differences are shown: one in twenty would be bold by chance. All seeds are "
        "evaluated on the same problems, so intervals hold the luck of training, not the choice of problems.",
        markdown_table(
            ["variant", "finished", "flags"],
            [
                [
                    name,
                    f"{len(outcomes[name])} of {len(account.seeds)}",
                    f"`{flags}`" if flags else "",
                ]
                for name, flags in account.flags.items()
            ],
        ),
    ]
    if account.failures:
        rows = [[run, words] for run, words in account.failures.items()]
        text += ["## Not finished", markdown_table(["run", "its last words"], rows)]
    return text


def _summary(shown: Sequence[Measure], outcomes: Outcomes, baseline: str) -> list[str]:
    """One table: each measure with its difference from the baseline behind it, and what it was at first."""
    header = ["variant", *(text for m in shown for text in (m.label, "difference"))]
    before = [text for m in shown for text in (_mean_at_start(m, outcomes), "")]
    rows = [["before training", *before]]
    for name, runs in outcomes.items():
        row = [name]
        for measure in shown:
            difference = _difference(measure, runs, outcomes[baseline]) if name != baseline else ""
            row += [_mean(measure, runs), difference]
        rows.append(row)
    return ["## Summary", f"Differences are those from {baseline}.", markdown_table(header, rows)]


def _section(title: str, shown: Sequence[Measure], outcomes: Outcomes, baseline: str) -> list[str]:
    header = ["variant", *(measure.label for measure in shown)]
    means = [[name, *(_mean(m, runs) for m in shown)] for name, runs in outcomes.items()]
    differences = [
        [name, *(_difference(m, runs, outcomes[baseline]) for m in shown)]
        for name, runs in outcomes.items()
        if name != baseline
    ]
    parts = [f"## {title}", markdown_table(header, means)]
    if differences:
        parts += [f"Difference from {baseline}:", markdown_table(header, differences)]
    return parts


def _mean_at_start(measure: Measure, outcomes: Outcomes) -> str:
    """Over seeds, of the mean over the variants, which begin alike unless the model or data vary."""
    found = {}
    for runs in outcomes.values():
        for seed, run in runs.items():
            if (value := measure.at_start(run)) is not None:
                found.setdefault(seed, []).append(value)
    means = [sum(values) / len(values) for values in found.values()]
    return _interval(over_seeds(means), _digits(measure), len(means)) if means else "-"


def _mean(measure: Measure, runs: Mapping) -> str:
    values = values_by_seed(measure, runs)
    if not values:
        return "-"
    return _interval(over_seeds(list(values.values())), _digits(measure), len(values))


def _difference(measure: Measure, runs: Mapping, baseline: Mapping) -> str:
    found = paired_by_seed(values_by_seed(measure, runs), values_by_seed(measure, baseline))
    if found is None:
        return "-"
    digits = _digits(measure)
    text = _interval(found.bootstrap, digits, found.seeds, sign="+")
    if found.student:
        text += f" ({found.student.low:+.{digits}f} to {found.student.high:+.{digits}f})"
    return f"**{text}**" if found.is_clear else text


def _interval(x: Interval, digits: int, seeds: int, sign: str = "") -> str:
    """One seed has no interval."""
    mean, low, high = (f"{value:{sign}.{digits}f}" for value in x)
    return f"{mean} [{low}, {high}]" if seeds > 1 else mean


def _digits(measure: Measure) -> int:
    return 1 if measure.scale == 100.0 else 3
