"""Bundles of questions: order, permute, score, and give the credit back to the responses.

RiskPO (arXiv 2510.00911): B questions form a bundle, and the n-th sample of a bundle joins one
response of each. A single binary reward has no tails to weigh; the sum of B of them has.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp

from riskpo_jax.errors import UserError


def random_order(key: jax.Array, num_questions: int) -> jax.Array:
    """int32[Q]: the questions in uniformly random order."""
    return jax.random.permutation(key, num_questions)


def stratified_order(key: jax.Array, pass_rates_Q: jax.Array) -> jax.Array:
    """int32[Q]: the questions by ascending pass rate, ties in random order.

    Neighbours share a bundle, so hard questions meet hard ones and MVaR really weights them.
    """
    order_Q = jax.random.permutation(key, pass_rates_Q.size)
    return order_Q[jnp.argsort(pass_rates_Q[order_Q], stable=True)]


def to_bundles(rewards_QxG: jax.Array, order_Q: jax.Array, bundle_size: int) -> jax.Array:
    """[K, B, G]: each run of B questions in `order_Q` is a bundle.

    Raises UserError when B does not divide Q.
    """
    num_questions, num_responses = rewards_QxG.shape
    if num_questions % bundle_size:
        raise UserError(
            f"bundle size {bundle_size} does not divide the {num_questions} questions of a step: "
            "choose a divisor"
        )
    return rewards_QxG[order_Q].reshape(-1, bundle_size, num_responses)


def from_bundles(values_KxBxG: jax.Array, order_Q: jax.Array) -> jax.Array:
    """[Q, G] in the batch's own order: the inverse of `to_bundles`."""
    values_QxG = values_KxBxG.reshape(-1, values_KxBxG.shape[-1])
    return jnp.zeros_like(values_QxG).at[order_Q].set(values_QxG)


def draw_permutations(key: jax.Array, shape_KxBxG: Sequence[int]) -> jax.Array:
    """int32[K, B, G]: an independent uniform permutation of 0..G-1 for every question."""
    identity_KxBxG = jnp.broadcast_to(jnp.arange(shape_KxBxG[-1]), shape_KxBxG)
    return jax.random.permutation(key, identity_KxBxG, axis=-1, independent=True)


def bundle_scores(rewards_KxBxG: jax.Array, permutations_KxBxG: jax.Array) -> jax.Array:
    """[K, G]: `z[k, n] = sum_i s[k, i, permutation[k, i, n]]`; every response counts once."""
    return jnp.take_along_axis(rewards_KxBxG, permutations_KxBxG, axis=-1).sum(axis=1)


def uniform_credit(advantages_KxG: jax.Array, permutations_KxBxG: jax.Array) -> jax.Array:
    """[K, B, G]: each response gets the advantage of the bundle sample it joined (RiskPO)."""
    shared_KxBxG = jnp.broadcast_to(advantages_KxG[:, None, :], permutations_KxBxG.shape)
    return jnp.take_along_axis(shared_KxBxG, jnp.argsort(permutations_KxBxG, axis=-1), axis=-1)


def expected_credit(
    rewards_KxBxG: jax.Array,
    advantage_fn: Callable[[jax.Array], jax.Array],
    grid_points: int = 61,
) -> jax.Array:
    """[K, B, G]: the mean of `uniform_credit` over all permutations, before any baseline.

    `E_z'[A(s[k, i, n] + z')]`, where z' is the score of the other B - 1 questions: the paper's
    credit without the luck of which strangers shared a bundle sample (Rao-Blackwell). Permutations
    are independent across questions, so z' is distributed as the convolution of the others'
    empirical rewards, here on `grid_points` (at least 2) equally spaced values from the batch's
    smallest to its largest reward. A reward between two of them is split linearly, which keeps its
    mean; the response's own reward stays exact. So the result is exact when rewards lie on the
    grid: binary and +-1 ones on any grid, with 61 points every fraction of their span whose
    denominator divides 60.

    `advantage_fn` maps scores of any shape to advantages, elementwise.
    """
    _, bundle_size, _ = rewards_KxBxG.shape
    low, high = rewards_KxBxG.min(), rewards_KxBxG.max()
    spacing = (high - low) / (grid_points - 1)

    masses_KxBxP = _grid_masses(rewards_KxBxG, low, high, grid_points)
    others_KxBxS = _leave_one_out_convolution(masses_KxBxP)

    other_scores_S = (bundle_size - 1) * low + spacing * jnp.arange(others_KxBxS.shape[-1])
    scores_KxBxGxS = rewards_KxBxG[..., None] + other_scores_S[None, None, None, :]
    return (others_KxBxS[:, :, None, :] * advantage_fn(scores_KxBxGxS)).sum(axis=-1)


def _grid_masses(
    rewards_KxBxG: jax.Array, low: jax.Array, high: jax.Array, points: int
) -> jax.Array:
    """[K, B, P]: each question's empirical reward distribution, split linearly onto the grid."""
    span = jnp.where(high > low, high - low, 1)
    positions_KxBxG = (rewards_KxBxG - low) / span * (points - 1)
    distances_KxBxGxP = jnp.abs(
        positions_KxBxG[..., None] - jnp.arange(points)[None, None, None, :]
    )
    return jnp.maximum(1 - distances_KxBxGxP, 0).mean(axis=2)


def _leave_one_out_convolution(masses_KxBxP: jax.Array) -> jax.Array:
    """[K, B, S] with S = (B - 1)(P - 1) + 1: the distribution of the sum of the other questions.

    A convolution is a product of Fourier transforms. They are at most 1 in modulus, so float32
    costs about 1e-7.
    """
    _, bundle_size, points = masses_KxBxP.shape
    size = (bundle_size - 1) * (points - 1) + 1
    padded = 1 << (size - 1).bit_length()
    transforms_KxBxF = jnp.fft.rfft(masses_KxBxP, padded)
    itself_BxB = jnp.eye(bundle_size, dtype=bool)[None, :, :, None]
    others_KxBxF = jnp.where(itself_BxB, 1, transforms_KxBxF[:, None]).prod(axis=2)
    return jnp.fft.irfft(others_KxBxF, padded)[..., :size]


def subtract_mean(values: jax.Array, axis: int | Sequence[int] | None) -> jax.Array:
    """Values minus their mean over `axis`; equal values give exactly 0."""
    # Without the shift, the mean of equal values can round away from them.
    shifted = values - values.min(axis=axis, keepdims=True)
    return shifted - shifted.mean(axis=axis, keepdims=True)


def subtract_leave_one_out_mean(values: jax.Array, axis: int | Sequence[int] | None) -> jax.Array:
    """Each value minus the mean of the OTHER values over `axis`; 0 where there is no other.

    A baseline that does not depend on the value itself leaves the policy gradient unbiased.
    """
    centred = subtract_mean(values, axis)
    count = values.size // values.min(axis=axis).size
    return centred * (count / max(count - 1, 1))
