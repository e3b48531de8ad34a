"""What the authors' released code computes, which differs from their paper.

`official_advantages` follows `compute_grpo_bundle_rvar_outcome_advantage_quantile_tracking` in
verl/trainer/ppo/core_algos.py of RTkenny/RiskPO, a fork of verl: quantiles of each bundle,
normalised risk terms, division by the bundle's standard deviation, n-th response paired with n-th
response.

With the natural baseline, risk "mix" and no std normalisation, (w + 1)(beta - alpha) times its
advantage is the paper's, with 1 + omega = w (beta - alpha) / alpha: their w = 1.5 at (0.2, 0.8) is
omega = 3.5.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp

from riskpo_jax.errors import UserError

_EPSILON = 1e-6

# The recipe of run_qwen2.5_1.5b_MVaR_dapomath.sh (alpha 0.2, beta 0.8, B = 5, G = 10). Their script
# says "track", but the tracked values never reach the advantage, so each bundle's own quantiles do
# the work. Their easy-math recipe (run_qwen2.5_1.5b_MVaR_math.sh) has beta 0.9, natural_baseline
# True and credit "std"; the risk-seeking one has risk "seek", upper_weight 1.5, natural_baseline
# True and credit "std".
OFFICIAL_RELEASED: Mapping[str, Any] = MappingProxyType(
    {
        "risk": "mix",
        "w_mix": 1.5,
        "upper_weight": 1.5,
        "quantile_source": "batch",
        "natural_baseline": False,
        "std_normalize": True,
        "credit": "sum-mean",
        "sigma_floor": 0.0,
    }
)


def official_intended(bundle_size: int) -> dict[str, Any]:
    """`OFFICIAL_RELEASED` with the live tracker that its script asks for.

    With a live tracker an all-equal bundle keeps an advantage while its sigma is 0, so sigma needs
    a floor: 0.1 B, ours.
    """
    return dict(OFFICIAL_RELEASED, quantile_source="track", sigma_floor=0.1 * bundle_size)


def official_advantages(
    rewards: jax.Array,
    *,
    alpha: float,
    beta: float,
    w_mix: float,
    upper_weight: float,
    risk: str,
    quantile_source: str,
    tracked: tuple[jax.Array, jax.Array] | None,
    natural_baseline: bool,
    std_normalize: bool,
    credit: str,
    sigma_floor: float = 0.0,
) -> jax.Array:
    """[K, B, G]: the advantage of every response, for float rewards [K, B, G].

    `risk`: mix (lower tail, weight `w_mix`), seek (upper tail, weight `upper_weight`) or rvar.
    `quantile_source`: track, batch or mix, of `tracked` (q_alpha, q_beta) and the bundle's own
    quantiles; `tracked` None means no value yet. `credit`: uniform, score, std or sum-mean.
    `sigma_floor` is the least sigma that divides (theirs: 0). Strings and bools are static under
    jit. Raises UserError for a string that is not one of these.
    """
    choose_quantile = _named(_QUANTILE_SOURCES, quantile_source, "quantile source")
    mix_risk = _named(_RISKS, risk, "risk")
    give_credit = _named(_CREDITS, credit, "credit")

    z = rewards.sum(axis=1)
    tracked_alpha, tracked_beta = (None, None) if tracked is None else tracked
    q_alpha = choose_quantile(_linear_quantile(z, alpha), tracked_alpha)
    q_beta = choose_quantile(_linear_quantile(z, beta), tracked_beta)

    middle = jnp.maximum(z - q_alpha, 0) - jnp.maximum(z - q_beta, 0)
    if natural_baseline:
        middle = middle + q_alpha - q_beta
    middle = middle / (beta - alpha + _EPSILON)
    lower_tail = -jnp.maximum(q_alpha - z, 0) / (alpha + _EPSILON)
    upper_tail = jnp.maximum(z - q_beta, 0) / (1 - beta + _EPSILON)

    advantages_KxG = mix_risk(middle, lower_tail, upper_tail, w_mix, upper_weight)
    if std_normalize:
        sigma_Kx1 = jnp.maximum(_std_or_one(z), sigma_floor)
        advantages_KxG = advantages_KxG / (sigma_Kx1 + _EPSILON)
    return give_credit(advantages_KxG[:, None, :], rewards)


def _named(choices: Mapping[str, Callable], name: str, what: str) -> Callable:
    if name not in choices:
        raise UserError(f"unknown {what} {name!r}: choose one of {', '.join(choices)}")
    return choices[name]


def _linear_quantile(values: jax.Array, level: float) -> jax.Array:
    """torch.quantile: linear interpolation over the last axis, kept. Exact on equal values."""
    ordered = jnp.sort(values, axis=-1)
    last = values.shape[-1] - 1
    rank = jnp.asarray(level * last, values.dtype)
    low = jnp.floor(rank).astype(jnp.int32)
    below = jnp.take(ordered, jnp.minimum(low, last), axis=-1)[..., None]
    above = jnp.take(ordered, jnp.minimum(low + 1, last), axis=-1)[..., None]
    return below + (rank - low) * (above - below)


def _std_or_one(values: jax.Array) -> jax.Array:
    """ddof = 1 standard deviation over the last axis, kept; 1 for a single value."""
    if values.shape[-1] == 1:
        return jnp.ones_like(values)
    return values.std(axis=-1, ddof=1, keepdims=True)


def _tracked_quantile(own_Kx1: jax.Array, tracked: jax.Array | None) -> jax.Array:
    return own_Kx1 if tracked is None else jnp.full_like(own_Kx1, tracked)


def _bundle_quantile(own_Kx1: jax.Array, tracked: jax.Array | None) -> jax.Array:
    del tracked
    return own_Kx1


def _averaged_quantile(own_Kx1: jax.Array, tracked: jax.Array | None) -> jax.Array:
    return (own_Kx1 + _tracked_quantile(own_Kx1, tracked)) / 2


# The three risks take [K, G] terms and the two weights, and return [K, G].


def _mixed_risk(middle, lower_tail, upper_tail, w_mix, upper_weight):
    del upper_tail, upper_weight
    return (w_mix * lower_tail + middle) / (w_mix + 1)


def _seeking_risk(middle, lower_tail, upper_tail, w_mix, upper_weight):
    del lower_tail, w_mix
    return (upper_weight * upper_tail + middle) / (upper_weight + 1)


def _range_risk(middle, lower_tail, upper_tail, w_mix, upper_weight):
    del lower_tail, upper_tail, w_mix, upper_weight
    return middle


def _uniform_credit(advantages_Kx1xG: jax.Array, rewards_KxBxG: jax.Array) -> jax.Array:
    return jnp.broadcast_to(advantages_Kx1xG, rewards_KxBxG.shape)


def _score_credit(advantages_Kx1xG: jax.Array, rewards_KxBxG: jax.Array) -> jax.Array:
    return advantages_Kx1xG * jnp.where(rewards_KxBxG > 0, 0.5, 1.5)


def _std_credit(advantages_Kx1xG: jax.Array, rewards_KxBxG: jax.Array) -> jax.Array:
    sigma_KxBx1 = _std_or_one(rewards_KxBxG)
    return advantages_Kx1xG / (jnp.where(sigma_KxBx1 > 1e-3, sigma_KxBx1, 1) + _EPSILON)


def _sum_mean_credit(advantages_Kx1xG: jax.Array, rewards_KxBxG: jax.Array) -> jax.Array:
    """Shares in proportion to r = s - mean s, or equal ones where these sum to nothing."""
    r = rewards_KxBxG - rewards_KxBxG.mean(axis=-1, keepdims=True)
    total_Kx1xG = r.sum(axis=1, keepdims=True)
    divisible = jnp.abs(total_Kx1xG) > 1e-6
    shares_KxBxG = jnp.where(divisible, r / jnp.where(divisible, total_Kx1xG, 1), 1 / r.shape[1])
    return advantages_Kx1xG * shares_KxBxG


_QUANTILE_SOURCES = {
    "track": _tracked_quantile,
    "batch": _bundle_quantile,
    "mix": _averaged_quantile,
}
_RISKS = {"mix": _mixed_risk, "seek": _seeking_risk, "rvar": _range_risk}
_CREDITS = {
    "uniform": _uniform_credit,
    "score": _score_credit,
    "std": _std_credit,
    "sum-mean": _sum_mean_credit,
}
