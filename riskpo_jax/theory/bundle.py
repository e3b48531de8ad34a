"""A bundle of independent questions as one policy over tuples of responses.

Q questions with Y responses each make S = Y^Q tuples, the first question's response varying slowest.
The log-probability of a tuple and its score are both sums over the questions, so one function makes
both.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from riskpo_jax.theory.policy import log_probabilities, score_gradient

AdvantageFn = Callable[[jax.Array], jax.Array]  # scores of any shape -> advantages, elementwise


def sum_over_questions(values_QxY: jax.Array) -> jax.Array:
    """[S]: for every tuple the sum of its responses' values."""
    sums = jnp.zeros_like(values_QxY[0, :1])
    for values_Y in values_QxY:
        sums = (sums[:, None] + values_Y[None, :]).reshape(-1)
    return sums


def score_distribution(
    logits_QxY: jax.Array, rewards_QxY: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """(scores [S], masses [S]): the bundle's exact score distribution, one entry a tuple."""
    log_masses_S = sum_over_questions(log_probabilities(logits_QxY))
    return sum_over_questions(rewards_QxY), jnp.exp(log_masses_S)


def expected_advantages(
    logits_QxY: jax.Array, rewards_QxY: jax.Array, advantage_fn: AdvantageFn
) -> jax.Array:
    """[Q, Y]: `E[A(z) | y_i = y]`, what a response gets on average over the other questions' luck."""
    scores_S, masses_S = score_distribution(logits_QxY, rewards_QxY)
    num_questions, num_responses = logits_QxY.shape
    shape = (num_responses,) * num_questions
    weighted = (masses_S * advantage_fn(scores_S)).reshape(shape)
    masses = masses_S.reshape(shape)

    def mean_given(question: int) -> jax.Array:
        others = tuple(axis for axis in range(num_questions) if axis != question)
        return weighted.sum(axis=others) / masses.sum(axis=others)

    return jnp.stack([mean_given(question) for question in range(num_questions)])


def expected_gradient(
    logits_QxY: jax.Array, rewards_QxY: jax.Array, advantage_fn: AdvantageFn
) -> jax.Array:
    """[Q, Y]: `E[A(z) grad log pi]` with respect to the logits, exactly (RiskPO's Theorem 1)."""
    advantages_QxY = expected_advantages(logits_QxY, rewards_QxY, advantage_fn)
    return score_gradient(logits_QxY, advantages_QxY)
