"""The paper's credit over every permutation, by enumeration.

A bundle's G samples join one response of each of its B questions by independent permutations. There
are (G!)^B ways, few enough for small bundles to see the whole distribution of what a response gets.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from riskpo_jax.algorithms.bundles import bundle_scores, uniform_credit


def all_pairings(bundle_size: int, num_responses: int) -> jax.Array:
    """int32[(G!)^B, B, G]: every choice of one permutation for each question."""
    permutations = list(itertools.permutations(range(num_responses)))
    return jnp.array(list(itertools.product(permutations, repeat=bundle_size)), jnp.int32)


def credit_over_pairings(
    rewards_BxG: jax.Array, advantage_fn: Callable[[jax.Array], jax.Array]
) -> jax.Array:
    """[(G!)^B, B, G]: what `uniform_credit` gives to each response, pairing by pairing.

    Their mean is the expected credit; their variance is noise that the bundling adds.
    """
    pairings_NxBxG = all_pairings(*rewards_BxG.shape)
    rewards_NxBxG = jnp.broadcast_to(rewards_BxG, pairings_NxBxG.shape)
    scores_NxG = bundle_scores(rewards_NxBxG, pairings_NxBxG)
    return uniform_credit(advantage_fn(scores_NxG), pairings_NxBxG)
