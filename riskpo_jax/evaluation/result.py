"""One evaluation: what was sampled for each problem, and the rows of `eval.jsonl` made from it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import numpy as np

from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.bootstrap import Interval, mean_interval, paired_difference
from riskpo_jax.evaluation.metrics import avg_at_k, maj_at_k, pass_at_k
from riskpo_jax.rewards.outcome import Kind

ALL = "all"


@dataclasses.dataclass(frozen=True, eq=False)
class EvalResult:
    """P problems with S samples each.

    Attributes:
      dataset: name of the problem set, e.g. "countdown".
      step: training step of the policy.
      problem_ids: P names; two evaluations are paired by them.
      levels: P difficulty levels, "" where the set has none.
      correct_PxS: bool.
      answers: P lists of S normalised answers, "" where there is none (majority vote).
      outcomes: P lists of S outcome kinds, e.g. "correct", "wrong", "timeout".
      lengths_PxS: int, response tokens including the end token.
      truncated_PxS: bool, no end token within the limit.
      entropy_PxS: float, nats, policy entropy SUMMED over a response's tokens; NaN if not measured.
    """

    dataset: str
    step: int
    problem_ids: Sequence[str]
    levels: Sequence[str]
    correct_PxS: np.ndarray
    answers: Sequence[Sequence[str]]
    outcomes: Sequence[Sequence[str]]
    lengths_PxS: np.ndarray
    truncated_PxS: np.ndarray
    entropy_PxS: np.ndarray

    def __post_init__(self):
        if len(self.problem_ids) == 0:
            raise UserError(f"evaluation set {self.dataset!r} is empty: give at least one problem")
        for name in ("levels", "correct_PxS", "answers", "outcomes"):
            if len(getattr(self, name)) != len(self.problem_ids):
                raise ValueError(
                    f"EvalResult.{name} has {len(getattr(self, name))} rows for "
                    f"{len(self.problem_ids)} problems"
                )
        for name in ("lengths_PxS", "truncated_PxS", "entropy_PxS"):
            if getattr(self, name).shape != self.correct_PxS.shape:
                raise ValueError(
                    f"EvalResult.{name} has shape {getattr(self, name).shape}, "
                    f"correct_PxS {self.correct_PxS.shape}"
                )
        for name in ("answers", "outcomes"):
            if any(len(row) != self.samples for row in getattr(self, name)):
                raise ValueError(f"EvalResult.{name} needs {self.samples} entries a problem")

    @property
    def samples(self) -> int:
        """S, samples a problem."""
        return self.correct_PxS.shape[1]

    def by_level(self) -> dict[str, EvalResult]:
        """The part of each level, and the whole under "all".

        Levels that are numbers stand in their order, others in the order of their first occurrence.
        """
        levels = [level for level in dict.fromkeys(self.levels) if level]
        if all(level.isdecimal() for level in levels):
            levels.sort(key=int)
        return {level: self._select(level) for level in levels} | {ALL: self}

    def summary(self, ks: Sequence[int]) -> list[dict]:
        """The rows of `eval.jsonl`: one a level, then "all".

        Keys: `step`, `dataset` ("countdown/easy"), `n`, `samples`; for each k `pass@k`, `avg@k` and
        `maj@k`, the last two also for k = S, each with `/low` and `/high` (95% interval over
        problems); `entropy` (nats a token), `response/length_mean`, `response/truncated_fraction`,
        `outcome/<kind>` (counts, every kind named).

        Raises:
          UserError: a k is outside 1..S.
        """
        return [part._row(level, ks) for level, part in self.by_level().items()]

    def _row(self, level: str, ks: Sequence[int]) -> dict:
        size = self.samples
        counts = Counter(kind for row in self.outcomes for kind in row)
        row = {
            "step": self.step,
            "dataset": f"{self.dataset}/{level}",
            "n": len(self.problem_ids),
            "samples": size,
        }
        for k in ks:
            row |= _named(f"pass@{k}", mean_interval(pass_at_k(self.correct_PxS, k)))
        for k in sorted({*ks, size}):
            row |= _named(f"avg@{k}", mean_interval(avg_at_k(self.correct_PxS, k)))
            majority_P = maj_at_k(self.answers, self.correct_PxS, k)
            row |= _named(f"maj@{k}", mean_interval(majority_P))
        return row | {
            "entropy": float(self.entropy_PxS.sum() / max(self.lengths_PxS.sum(), 1)),
            "response/length_mean": float(self.lengths_PxS.mean()),
            "response/truncated_fraction": float(self.truncated_PxS.mean()),
            **{f"outcome/{kind}": counts[kind] for kind in Kind},
        }

    def _select(self, level: str) -> EvalResult:
        rows = [p for p, own in enumerate(self.levels) if own == level]
        return dataclasses.replace(
            self,
            problem_ids=[self.problem_ids[p] for p in rows],
            levels=[level] * len(rows),
            correct_PxS=self.correct_PxS[rows],
            answers=[self.answers[p] for p in rows],
            outcomes=[self.outcomes[p] for p in rows],
            lengths_PxS=self.lengths_PxS[rows],
            truncated_PxS=self.truncated_PxS[rows],
            entropy_PxS=self.entropy_PxS[rows],
        )


def compare(before: EvalResult, after: EvalResult, ks: Sequence[int]) -> list[dict]:
    """Rows of after minus before, one a level, then "all".

    Keys: `dataset`, `n`; for each k `pass@k/before`, `pass@k/after` and `pass@k/difference`, the
    last an `Interval` (95%, paired by problem).

    Raises:
      UserError: the two did not evaluate the same problems in one order, or a k is outside 1..S.
    """
    if list(before.problem_ids) != list(after.problem_ids):
        raise UserError(
            f"{before.dataset!r} at step {before.step} and {after.dataset!r} at step {after.step} "
            "hold different problems: evaluate both on one set"
        )
    after_parts = after.by_level()
    rows = []
    for level, part in before.by_level().items():
        row = {"dataset": f"{after.dataset}/{level}", "n": len(part.problem_ids)}
        for k in ks:
            before_P = pass_at_k(part.correct_PxS, k)
            after_P = pass_at_k(after_parts[level].correct_PxS, k)
            row[f"pass@{k}/before"] = float(before_P.mean())
            row[f"pass@{k}/after"] = float(after_P.mean())
            row[f"pass@{k}/difference"] = paired_difference(after_P, before_P)
        rows.append(row)
    return rows


def scalars(rows: Sequence[dict]) -> dict[str, float]:
    """Rows of `summary` as one flat dict for curves: `eval/countdown/easy/pass@1`, ..."""
    return {
        f"eval/{row['dataset']}/{key}": value
        for row in rows
        for key, value in row.items()
        if key not in ("step", "dataset")
    }


def _named(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}/low": interval.low, f"{name}/high": interval.high}
