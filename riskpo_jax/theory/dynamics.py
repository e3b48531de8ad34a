"""Training a bundle of tabular policies without sampling: natural-gradient steps with exact quantiles."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp

from riskpo_jax.theory import distribution
from riskpo_jax.theory.bundle import expected_advantages, score_distribution
from riskpo_jax.theory.entropy import natural_step

# One of the three of algorithms/mvar.py: (scores, q_alpha, q_beta, omega) -> advantages.
AdvantageShape = Callable[[jax.Array, jax.Array, jax.Array, float], jax.Array]


def natural_path(
    logits_QxY: jax.Array,
    rewards_QxY: jax.Array,
    shape: AdvantageShape,
    levels: tuple[float, float],
    omega: float,
    step_size: float,
    num_steps: int,
) -> jax.Array:
    """[K + 1, Q, Y]: the logits before the first of K steps and after each.

    Every step is `eta E[A(z) | y_i]`, with A at the current policy's own quantiles at `levels`: what the
    expected credit, an endless batch and a tracker without lag would do.
    """

    def one(logits_QxY, _):
        scores_S, masses_S = score_distribution(logits_QxY, rewards_QxY)
        q_alpha, q_beta = (distribution.quantile(scores_S, masses_S, level) for level in levels)
        advantage_fn = partial(shape, q_alpha=q_alpha, q_beta=q_beta, omega=omega)
        advantages_QxY = expected_advantages(logits_QxY, rewards_QxY, advantage_fn)
        return logits_QxY + natural_step(advantages_QxY, step_size), logits_QxY

    last_QxY, path_KxQxY = jax.lax.scan(one, logits_QxY, length=num_steps)
    return jnp.concatenate([path_KxQxY, last_QxY[None]])
