"""How a step of the logits changes the entropy of a softmax policy (RiskPO's Proposition 1).

To first order, `H(logits + step) - H(logits) = -Cov(log pi, step)`, whatever the step; the two steps
that matter differ in what they put there. Steps are [..., Y], of the logits' shape.
"""

from __future__ import annotations

import jax

from riskpo_jax.theory.policy import (
    covariance,
    entropy,
    log_probabilities,
    probabilities,
    score_gradient,
)


def natural_step(advantages: jax.Array, step_size: float) -> jax.Array:
    """`eta A`: the natural gradient's step, up to a constant that a softmax does not see.

    The Fisher matrix of a softmax is the covariance of its indicator variables, and maps A to
    `score_gradient`.
    """
    return step_size * advantages


def vanilla_step(logits: jax.Array, advantages: jax.Array, step_size: float) -> jax.Array:
    """`eta pi (A - E A)`: a step along the gradient itself.

    "A is replaced by pi A" (arXiv 2505.22617) holds for advantages centred under the policy only; MVaR's
    are never positive, so they must be centred first.
    """
    return step_size * score_gradient(logits, advantages)


def first_order_change(logits: jax.Array, step: jax.Array) -> jax.Array:
    """`-Cov(log pi, step)`, one a question: the change of entropy that Proposition 1 predicts."""
    return -covariance(probabilities(logits), log_probabilities(logits), step)


def change(logits: jax.Array, step: jax.Array) -> jax.Array:
    """`H(logits + step) - H(logits)` in nats, one a question, exactly."""
    return entropy(logits + step) - entropy(logits)
