"""Where the risk measure bends: at levels as given, or placed by the tracked quantile function.

Bundle scores of sparse rewards have atoms: at the minimum all B questions are wrong, at the maximum
all are right. Once more than alpha of the mass is at the minimum, q_alpha is the minimum, no score
lies below it, and the lower tail of MVaR does nothing; beyond beta no score has an advantage at all.
An atom of 1 - beta at the maximum takes the cut at q_beta away. `adaptive` moves the levels off the
atoms. Both rules share one signature, so one replaces the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from riskpo_jax.algorithms.quantiles import lookup
from riskpo_jax.types import TrackerState


class RiskLevels(NamedTuple):
    """Scalars: two levels, `0 < alpha < beta <= 1`, and the scores there, `q_alpha <= q_beta`."""

    alpha: jax.Array | float
    beta: jax.Array | float
    q_alpha: jax.Array
    q_beta: jax.Array


def fixed(
    tracker: TrackerState,
    low: jax.Array,
    high: jax.Array,
    step_size: jax.Array | float,
    *,
    tracked: Sequence[float],
    alpha: float,
    beta: float,
) -> RiskLevels:
    """The levels as they were given; both must be among the `tracked` ones.

    `low`, `high` and `step_size` are unused; they are here so that the two rules are called alike.
    """
    del low, high, step_size
    quantiles = (lookup(tracker, tracked, level) for level in (alpha, beta))
    return RiskLevels(alpha, beta, *quantiles)


def adaptive(
    tracker: TrackerState,
    low: jax.Array,
    high: jax.Array,
    step_size: jax.Array | float,
    *,
    tracked: Sequence[float],
    alpha: float,
    beta: float,
) -> RiskLevels:
    """The levels as they were given, but of the scores between the ends, in mid-quantiles.

    With atoms p0 at `low` and p1 at `high`, `alpha' = p0 + alpha (1 - p0 - p1)` and
    `beta' = p0 + beta (1 - p0 - p1)`: scores at an end are censored, a small improvement of the
    policy leaves most of them there, and the risk measure is placed among the others.

    The other atoms are interpolated between: q_alpha and q_beta lie between two atoms where the level
    lies between their mid-levels (`mid_levels`). On continuous scores this is exact: alpha of the mass
    between the ends is below q_alpha and beta - alpha between the two. On atoms it is a convention that
    moves with their masses, where a plain quantile jumps from one to the next: of Binomial(5, 0.16)
    q_0.2 is 0.53, and no score between the ends lies below it.

    Without atoms both levels, and their quantiles, are those that were given.

    Args:
      tracker: the quantile estimates at the `tracked` levels, ascending.
      low, high: the ends of the scores; in training B times the batch's smallest and largest reward.
      step_size: that of the tracker, in units of score, which bounds how far an estimate wanders.
    """
    values_L, levels_L = tracker.values, jnp.asarray(tracked)
    at_low_L, at_high_L = at_ends(values_L, levels_L, low, high, step_size)
    p0 = jnp.where(at_low_L, levels_L, 0).max()
    p1 = jnp.where(at_high_L, 1 - levels_L, 0).max()
    placed_alpha, placed_beta = (p0 + level * (1 - p0 - p1) for level in (alpha, beta))

    inside_L = ~(at_low_L | at_high_L)
    nodes = jnp.concatenate(
        [jnp.zeros(1), mid_levels(values_L, levels_L, inside_L, step_size), jnp.ones(1)]
    )
    # Nothing is known beyond the tracked levels, but where they are all at one end.
    first = jnp.where(at_high_L[0], low, values_L[0])
    last = jnp.where(at_low_L[-1], high, values_L[-1])
    scores = jnp.concatenate([first[None], values_L, last[None]])
    q_alpha, q_beta = (jnp.interp(level, nodes, scores) for level in (placed_alpha, placed_beta))
    return RiskLevels(placed_alpha, placed_beta, q_alpha, q_beta)


def at_ends(
    values_L: jax.Array,
    levels_L: jax.Array,
    low: jax.Array,
    high: jax.Array,
    step_size: jax.Array | float,
) -> tuple[jax.Array, jax.Array]:
    """bool[L], bool[L]: which tracked quantiles are at `low`, and which at `high`.

    On an atom an estimate never rests. The one at level p climbs by `step_size` p when it is at
    `low` and falls back later, so it is at most that far above; twice that is allowed, as step
    sizes decay. At `high` it is the same with 1 - p. Ends that are no further apart than this, as
    those of a batch of equal rewards, have none.
    """
    at_low_L = values_L <= low + 2 * step_size * levels_L
    at_high_L = values_L >= high - 2 * step_size * (1 - levels_L)
    apart = high - low > 2 * step_size
    return at_low_L & apart, at_high_L & apart


def mid_levels(
    values_L: jax.Array, levels_L: jax.Array, inside_L: jax.Array, tolerance: jax.Array | float
) -> jax.Array:
    """[L]: the levels, but tied values share the middle of their levels; `values_L` ascending.

    The inverse of the mid-quantile function of Ma, Genton and Parzen (2011), which joins the middles
    of the steps of a discrete quantile function. Only values `inside` are tied, to one another,
    where at most `tolerance` is between them: estimates on the same atom are within a step.
    """
    gaps_LxL = jnp.abs(values_L[:, None] - values_L[None, :])
    tied_LxL = (gaps_LxL <= tolerance) & inside_L[:, None] & inside_L[None, :]
    tied_LxL |= jnp.eye(values_L.size, dtype=bool)
    lowest_L = jnp.where(tied_LxL, levels_L[None, :], jnp.inf).min(axis=1)
    highest_L = jnp.where(tied_LxL, levels_L[None, :], -jnp.inf).max(axis=1)
    return (lowest_L + highest_L) / 2
