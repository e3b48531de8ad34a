"""The quantile tracker: the fast scale of RiskPO's two-timescale stochastic approximation.

One estimate a level, moved once per rollout batch (arXiv 2510.00911). The policy's step size must
decay faster than the tracker's.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from riskpo_jax.algorithms.risk import quantile
from riskpo_jax.errors import UserError
from riskpo_jax.types import TrackerState

# The levels that the authors' released code tracks.
OFFICIAL_LEVELS: tuple[float, ...] = tuple(round(0.05 * i, 2) for i in range(1, 20))


def init(num_levels: int) -> TrackerState:
    """A tracker that has seen nothing: step 0, values 0."""
    return TrackerState(values=jnp.zeros(num_levels, jnp.float32), step=jnp.zeros((), jnp.int32))


def initialise_if_needed(
    state: TrackerState, scores: jax.Array, levels_L: jax.Array | Sequence[float]
) -> TrackerState:
    """The state whose values the advantages of this batch use.

    At step 0 they are the batch's empirical quantiles. Scores of any shape; `levels_L` ascending.
    The step is not counted: `update` does that.
    """
    empirical_L = quantile(scores, jnp.asarray(levels_L)).astype(state.values.dtype)
    return state.replace(values=jnp.where(state.step == 0, empirical_L, state.values))


def update(
    state: TrackerState,
    scores: jax.Array,
    levels_L: jax.Array | Sequence[float],
    step_size: jax.Array | float,
) -> TrackerState:
    """One step of `q_p <- q_p + gamma (p - mean 1{z < q_p})`, then the nearest ascending values.

    Scores of any shape; `levels_L` ascending. The first update takes the batch's empirical
    quantiles instead.
    """
    values_L = state.values
    below_L = (scores.reshape(-1)[None, :] < values_L[:, None]).mean(axis=1)
    moved_L = isotonic_projection(values_L + step_size * (jnp.asarray(levels_L) - below_L))
    first_L = initialise_if_needed(state, scores, levels_L).values
    return TrackerState(values=jnp.where(state.step == 0, first_L, moved_L), step=state.step + 1)


def lookup(state: TrackerState, levels: Sequence[float], level: float) -> jax.Array:
    """The tracked quantile at `level`, a scalar; UserError when `levels` lacks it."""
    for index, tracked in enumerate(levels):
        if abs(tracked - level) < 1e-9:
            return state.values[index]
    names = ", ".join(f"{tracked:g}" for tracked in levels)
    raise UserError(
        f"quantile level {level:g} is not tracked ({names} are): add it to the tracked levels"
    )


def isotonic_projection(values_L: jax.Array) -> jax.Array:
    """The ascending sequence nearest to `values_L` in least squares.

    By the min-max formula `x_i = max_{a <= i} min_{b >= i} mean(values[a..b])` (Robertson et al.,
    1988), which pools adjacent violators without a loop. Sorted values come back as they are.
    """
    index = jnp.arange(values_L.size)
    i, a, b = jnp.ix_(index, index, index)
    inside_LxAxB = (a <= i) & (i <= b)
    counts_AxB = jnp.maximum(inside_LxAxB.sum(axis=0), 1)
    means_AxB = jnp.where(inside_LxAxB, values_L[:, None, None], 0).sum(axis=0) / counts_AxB

    smallest_LxA = jnp.where(b >= i, means_AxB[None], jnp.inf).min(axis=2)
    projected_L = jnp.where((a <= i)[..., 0], smallest_LxA, -jnp.inf).max(axis=1)
    # Rounding in the means must not move values that need no projection.
    return jnp.where((jnp.diff(values_L) >= 0).all(), values_L, projected_L)


def polynomial_step_size(
    step: jax.Array | int,
    initial: jax.Array | float,
    tau: jax.Array | float,
    power: jax.Array | float,
) -> jax.Array | float:
    """`gamma_k = gamma_0 / (1 + k / tau)^p`; converges to the true quantiles for 1/2 < p <= 1."""
    return initial / (1 + step / tau) ** power


def constant_step_size(step: jax.Array | int, initial: jax.Array | float) -> jax.Array | float:
    """`gamma_k = gamma_0`: follows a moving distribution and hovers around a fixed one.

    `step` is unused; it is here so that the two schedules are called alike.
    """
    del step
    return initial
