"""A tabular softmax policy: one logit a response, so that every expectation is a finite sum.

The last axis is the responses of a question, of any length Y; axes before it are questions.
"""

from __future__ import annotations

import jax


def log_probabilities(logits: jax.Array) -> jax.Array:
    """`log pi(y)`, of the logits' shape."""
    return jax.nn.log_softmax(logits, axis=-1)


def probabilities(logits: jax.Array) -> jax.Array:
    """`pi(y)`, of the logits' shape."""
    return jax.nn.softmax(logits, axis=-1)


def entropy(logits: jax.Array) -> jax.Array:
    """`-E log pi` in nats, one a question."""
    return -expectation(probabilities(logits), log_probabilities(logits))


def expectation(masses: jax.Array, values: jax.Array) -> jax.Array:
    """`E values` over the last axis, whose masses sum to 1."""
    return (masses * values).sum(axis=-1)


def covariance(masses: jax.Array, left: jax.Array, right: jax.Array) -> jax.Array:
    """`E (left - E left)(right - E right)` over the last axis."""
    return expectation(masses, centre(masses, left) * centre(masses, right))


def centre(masses: jax.Array, values: jax.Array) -> jax.Array:
    """Values minus their expectation over the last axis."""
    return values - (masses * values).sum(axis=-1, keepdims=True)


def score_gradient(logits: jax.Array, advantages: jax.Array) -> jax.Array:
    """`E[A(y) grad log pi(y)]`, of the logits' shape: `pi (A - E A)`.

    A constant added to the advantages of a question changes nothing.
    """
    masses = probabilities(logits)
    return masses * centre(masses, advantages)
