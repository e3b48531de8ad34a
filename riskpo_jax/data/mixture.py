"""Several data sets as one, and the order in which weights draw from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import accumulate
from math import gcd, lcm

import numpy as np

from riskpo_jax.data.problem import Problem, Source, Subset
from riskpo_jax.errors import UserError

RESOLUTION = (
    10_000  # shares that no smaller whole numbers express are rounded to multiples of 1/this
)


@dataclass(frozen=True)
class Mixture:
    """The problems of all `parts`, one part after the other.

    weights: each part's share of the training stream; None for no say, which shuffles all problems
    alike, so that each comes once an epoch. Raises UserError for a part without problems, and as
    `whole_shares`.
    """

    parts: tuple[Source, ...]
    weights: tuple[float, ...] | None = None

    def __post_init__(self):
        for part, size in enumerate(self.sizes, start=1):
            if size == 0:
                raise UserError(
                    f"number {part} of --data.sets has no problems left: loosen --data.keep_levels, "
                    "--data.max_problem_chars, --data.max_prompt_length or --data.drop_contaminated, or "
                    "leave the set out"
                )
        if self.weights is not None:
            whole_shares(self.weights)  # raises

    @cached_property
    def sizes(self) -> tuple[int, ...]:
        return tuple(len(part) for part in self.parts)

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """The index of the first problem of each part, and the number of all problems."""
        return tuple(accumulate(self.sizes, initial=0))

    def __len__(self) -> int:
        return self.starts[-1]

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(index)
        part = self._part_of(index)
        return self.parts[part][index - self.starts[part]]

    def select(self, indices: Sequence[int]) -> Mixture:
        """The mixture of the problems at `indices`, which are ascending."""
        kept: list[list[int]] = [[] for _ in self.parts]
        for index in indices:
            part = self._part_of(index)
            kept[part].append(index - self.starts[part])
        parts = tuple(Subset(*both) for both in zip(self.parts, kept, strict=True))
        return Mixture(parts, self.weights)

    def _part_of(self, index: int) -> int:
        return int(np.searchsorted(self.starts, index, side="right")) - 1


def select(source: Source, indices: Sequence[int]) -> Source:
    """The problems of `source` at ascending `indices`; of a weighted mixture a mixture, as weighted."""
    if isinstance(source, Mixture) and source.weights is not None:
        return source.select(indices)
    return Subset(source, indices)


def whole_shares(weights: Sequence[float]) -> list[int]:
    """Positive whole numbers in the ratio of the weights, as small as can be.

    Where their sum would exceed `RESOLUTION` they are rounded to that sum (largest remainders).

    Raises UserError for a weight that this rounds to nothing.
    """
    exact = [Fraction(str(weight)) for weight in weights]
    whole = [int(w * lcm(*(w.denominator for w in exact))) for w in exact]
    whole = [w // gcd(*whole) for w in whole]
    if sum(whole) <= RESOLUTION:
        return whole
    scaled = [Fraction(w, sum(whole)) * RESOLUTION for w in whole]
    shares = [int(s) for s in scaled]
    by_remainder = sorted(range(len(shares)), key=lambda i: shares[i] - scaled[i])
    for i in by_remainder[: RESOLUTION - sum(shares)]:
        shares[i] += 1
    if 0 in shares:
        raise UserError(
            f"--data.weights={','.join(map(str, weights))}: each must be at least 1/{RESOLUTION} of "
            "their sum"
        )
    return shares


def interleave(shares: Sequence[int]) -> np.ndarray:
    """int64[sum(shares)]: which part comes when, part i as often as shares[i] says.

    Repeated for ever, the first n have more than n * share - 1 and less than n * share + 1 of each part.
    For that item j of a part may come from slot floor(j / share) on and must have come before slot
    ceil((j + 1) / share); of the items that may, the one that must first is taken (Baruah, Cohen, Plaxton
    and Varvel, Proportionate progress, 1996: the earliest deadline first meets them all).
    """
    total, taken = sum(shares), [0] * len(shares)
    order = np.empty(total, np.int64)
    for slot in range(total):
        may = [i for i, share in enumerate(shares) if taken[i] * total < (slot + 1) * share]
        order[slot] = min(may, key=lambda i: -((taken[i] + 1) * -total // shares[i]))
        taken[order[slot]] += 1
    return order
