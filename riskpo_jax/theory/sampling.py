"""What sampling makes of a bundle's exact gradient (`bundle.expected_gradient`): draws and their noise.

B questions with Y possible answers each: logits[B, Y], rewards[B, Y]; a utility U of the bundle's score,
which is the MVaR advantage where the objective is MVaR (RiskPO's Theorem 1).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from riskpo_jax.algorithms import bundles

Credit = Callable[[jax.Array, jax.Array], jax.Array]
"""(key, rewards[B, G]) -> advantages[B, G]"""


def sampled_gradient(
    key: jax.Array,
    logits_BxY: jax.Array,
    rewards_BxY: jax.Array,
    credit: Credit,
    group_size: int,
) -> jax.Array:
    """[B, Y]: the mean over G responses of A grad log pi, from one rollout batch of one bundle."""
    answer_key, credit_key = jax.random.split(key)
    B, Y = rewards_BxY.shape
    answers_BxG = jax.random.categorical(
        answer_key, logits_BxY[:, None, :], axis=-1, shape=(B, group_size)
    )
    advantages_BxG = credit(credit_key, jnp.take_along_axis(rewards_BxY, answers_BxG, axis=1))
    scores_BxGxY = jax.nn.one_hot(answers_BxG, Y) - jax.nn.softmax(logits_BxY)[:, None, :]
    return (advantages_BxG[..., None] * scores_BxGxY).mean(axis=1)


def uniform_credit(utility: Callable[[jax.Array], jax.Array]) -> Credit:
    """The paper's: a response has the utility of the one bundle sample that it joined."""

    def credit(key: jax.Array, rewards_BxG: jax.Array) -> jax.Array:
        rewards_1xBxG = rewards_BxG[None]
        permutations = bundles.draw_permutations(key, rewards_1xBxG.shape)
        utilities = utility(bundles.bundle_scores(rewards_1xBxG, permutations))
        return bundles.uniform_credit(utilities, permutations)[0]

    return credit


def expected_credit(utility: Callable[[jax.Array], jax.Array]) -> Credit:
    """Its mean over all permutations, less the leave-one-out mean of the question."""

    def credit(key: jax.Array, rewards_BxG: jax.Array) -> jax.Array:
        del key
        expected = bundles.expected_credit(rewards_BxG[None], utility)
        return bundles.subtract_leave_one_out_mean(expected, -1)[0]

    return credit


def noise(gradients_NxBxY: np.ndarray) -> float:
    """E||g - E g||^2 from N independent draws."""
    return float(gradients_NxBxY.var(axis=0, ddof=1).sum())
