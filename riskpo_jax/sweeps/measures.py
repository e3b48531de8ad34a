"""The numbers that are read off a run, and those that a report shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from riskpo_jax.reporting.run_data import RunData, Series

_LAST = 0.1  # of a run's steps, over which a training metric is averaged


@dataclass(frozen=True)
class Measure:
    """One number of a run.

    Attributes:
      label: heading of its column. key: of metrics.jsonl, or of eval.jsonl where `dataset` is given.
      scale: factor for display, 100 for percent.
    """

    label: str
    key: str
    dataset: str | None = None
    scale: float = 1.0

    def series(self, run: RunData) -> Series | None:
        """Against the training step, as recorded; None where it was not."""
        rows = run.metrics if self.dataset is None else run.evals.get(self.dataset, [])
        found = Series.of(rows, self.key)
        return found and Series(found.steps, self.scale * found.values)

    def of(self, run: RunData) -> float | None:
        """Of the last evaluation, or the mean over the last tenth of the steps; None if not there."""
        if (series := self.series(run)) is None:
            return None
        count = 1 if self.dataset is not None else max(1, round(_LAST * len(series.values)))
        return float(series.values[-count:].mean())


ENTROPY = Measure("entropy (nats a token)", "policy/entropy")
TRAINING = (
    Measure("reward", "reward/mean"),
    ENTROPY,
    Measure("MVaR", "risk/mvar"),
    Measure("lower-tail RVaR", "risk/cvar"),
)


def headline(datasets: Sequence[str], ks: Sequence[int]) -> list[Measure]:
    """pass@1 and pass@(largest k) of every dataset as a whole, in percent, and the policy's entropy."""
    passes = [
        Measure(f"pass@{k} (%), {name.removesuffix('/all')}", f"pass@{k}", name, 100.0)
        for name in wholes(datasets)
        for k in sorted({*ks[:1], *ks[-1:]})
    ]
    return [*passes, ENTROPY]


def evaluation(dataset: str, ks: Sequence[int]) -> list[Measure]:
    """pass@k for the smallest, the middle and the largest k, in percent, and the entropy there."""
    shown = sorted({ks[0], ks[len(ks) // 2], ks[-1]}) if ks else []
    passes = [Measure(f"pass@{k} (%)", f"pass@{k}", dataset, 100.0) for k in shown]
    return [*passes, Measure("entropy (nats a token)", "entropy", dataset)]


def wholes(datasets: Sequence[str]) -> list[str]:
    """The datasets without their levels."""
    return [name for name in datasets if name.endswith("/all")] or list(datasets)
