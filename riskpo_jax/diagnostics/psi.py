"""psi(r) = E[log pi(y|x) | R = r] from samples, and whether RiskPO's Assumption 1 holds for it.

Theorem 2 of RiskPO (arXiv 2510.00911) says that MVaR loses less entropy than the mean, if psi does not
increase over the lowest rewards, does not decrease over the highest, and is above the mean
log-probability in both tails: the policy is surer of what is very bad or very good than of the rest.

What is tested, for a distribution of scores with quantiles q_alpha and q_beta: over the score's values
(atoms) r_1 < r_2 < ...

    falling   psi(r_i) >= psi(r_i+1)    where r_i+1 <= q_alpha
    rising    psi(r_i+1) >= psi(r_i)    where r_i >= q_beta
    tail      psi(r_i) >= E[log pi]     where r_i < q_alpha or r_i > q_beta

The atom at a quantile is in no tail: the two advantages differ by omega (q_alpha - r)+ + (r - q_beta)+ and
a constant, which is zero there. So a reading that asked more would fail where the theorem does not care.
Where nothing lies beyond a quantile that tail is not tested; of a single binary reward often neither is.

A comparison counts as violated when the bootstrap interval of its difference lies below zero, as certain
when it lies above. The m comparisons of one test share an error of 5%: each interval is at 1 - 0.05 / m
(Bonferroni).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from riskpo_jax.diagnostics.resampling import percentile_interval
from riskpo_jax.evaluation.bootstrap import Interval

MOST_ATOMS = (
    12  # graded scores have more values: they are put into so many bins of about equal mass
)
FEWEST_UNITS = 10  # an atom that fewer units hold is shown, but not compared

_SLACK = 1e-6  # quantiles are float32

VIOLATED, HOLDS, UNDECIDED, UNTESTED = "violated", "holds", "undecided", "untested"
VERDICTS = (VIOLATED, HOLDS, UNDECIDED, UNTESTED)


class Psi(NamedTuple):
    """The mean log-probability at each of A atoms of the score, and over all, with D bootstrap draws.

    atoms_A: ascending scores. shares_A: of all samples. units_A: how many units hold the atom.
    """

    atoms_A: np.ndarray
    shares_A: np.ndarray
    units_A: np.ndarray
    means_A: np.ndarray
    mean: float
    draws_DxA: np.ndarray
    draws_D: np.ndarray


class Comparison(NamedTuple):
    """One inequality of Assumption 1: the difference that it says is at least 0, in nats."""

    kind: str
    at: float
    beside: float | None
    difference: Interval

    @property
    def verdict(self) -> str:
        if self.difference.high < 0:
            return VIOLATED
        return HOLDS if self.difference.low > 0 else UNDECIDED


def estimate_psi(
    scores_UxS: np.ndarray,
    logprobs_UxS: np.ndarray,
    weights_DxU: np.ndarray,
    cuts: Sequence[float] = (),
) -> Psi:
    """psi of S samples in each of U independent units (questions or bundles).

    weights_DxU: the bootstrap's; samples of a unit are drawn together. cuts: see `atoms_of`.
    """
    atoms_A, which_UxS = atoms_of(scores_UxS, cuts)
    held_UxSxA = which_UxS[..., None] == np.arange(len(atoms_A))[None, None]
    counts_UxA = held_UxSxA.sum(axis=1)
    totals_UxA = np.einsum("usa,us->ua", held_UxSxA, logprobs_UxS)
    with np.errstate(invalid="ignore"):  # 0 / 0 where a draw has nothing of an atom
        draws_DxA = (weights_DxU @ totals_UxA) / (weights_DxU @ counts_UxA)
    return Psi(
        atoms_A=atoms_A,
        shares_A=counts_UxA.sum(axis=0) / scores_UxS.size,
        units_A=(counts_UxA > 0).sum(axis=0),
        means_A=totals_UxA.sum(axis=0) / counts_UxA.sum(axis=0),
        mean=float(logprobs_UxS.mean()),
        draws_DxA=draws_DxA,
        draws_D=weights_DxU @ logprobs_UxS.mean(axis=1),
    )


def atoms_of(
    scores: np.ndarray, cuts: Sequence[float] = (), most: int = MOST_ATOMS
) -> tuple[np.ndarray, np.ndarray]:
    """Ascending atoms float[A] and the number of the one that each score belongs to.

    The score's own values where there are at most `most`; else the means of so many bins of about equal
    mass. Equal scores always share an atom. Bins are divided at the `cuts`, each of which, where it is a
    score, is an atom of its own: what is below, at or above a quantile stays so.
    """
    values, which = np.unique(np.round(scores, 6), return_inverse=True)
    which = which.reshape(scores.shape)
    if len(values) <= most:
        return values, which
    masses = np.bincount(which.reshape(-1)) / scores.size
    bins = ((np.cumsum(masses) - masses) * most + 1e-9).astype(int)
    for cut in cuts:  # both terms only grow with the value: so does the sum, and where either does
        bins = bins + (values >= cut - _SLACK) + (values > cut + _SLACK)
    _, of_value = np.unique(bins, return_inverse=True)
    which = of_value[which]
    counts = np.bincount(which.reshape(-1))
    return np.bincount(which.reshape(-1), scores.reshape(-1)) / counts, which


def compare(psi: Psi, q_alpha: float, q_beta: float) -> list[Comparison]:
    """Every inequality of Assumption 1 that enough units speak to; see the module's docstring."""
    tested = np.flatnonzero(psi.units_A >= FEWEST_UNITS)
    below = [a for a in tested if psi.atoms_A[a] < q_alpha - _SLACK]
    above = [a for a in tested if psi.atoms_A[a] > q_beta + _SLACK]
    low = [a for a in tested if psi.atoms_A[a] <= q_alpha + _SLACK]
    high = [a for a in tested if psi.atoms_A[a] >= q_beta - _SLACK]
    asked = [("falling", a, b) for a, b in zip(low, low[1:], strict=False)]
    asked += [("rising", b, a) for a, b in zip(high, high[1:], strict=False)]
    asked += [("tail", a, None) for a in [*below, *above]]
    level = 1 - 0.05 / max(len(asked), 1)
    return [_compared(psi, kind, above, below, level) for kind, above, below in asked]


def verdict(comparisons: Sequence[Comparison]) -> str:
    """Of all together: violated if one is, holds if all certainly do."""
    found = {comparison.verdict for comparison in comparisons}
    if not found:
        return UNTESTED
    if VIOLATED in found:
        return VIOLATED
    return HOLDS if found == {HOLDS} else UNDECIDED


def _compared(psi: Psi, kind: str, above: int, below: int | None, level: float) -> Comparison:
    """psi at atom `above` minus that at `below`, or minus the mean."""
    other, draws_D = psi.mean, psi.draws_D
    if below is not None:
        other, draws_D = psi.means_A[below], psi.draws_DxA[:, below]
    difference = percentile_interval(
        psi.means_A[above] - other, psi.draws_DxA[:, above] - draws_D, level
    )
    beside = None if below is None else float(psi.atoms_A[below])
    return Comparison(kind, float(psi.atoms_A[above]), beside, difference)
