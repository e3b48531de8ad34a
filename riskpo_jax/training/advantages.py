"""From the rewards of one rollout batch to an advantage for every response.

This is where configuration meets the formulas of `algorithms/`: `make_advantage_fn` looks the preset's
pieces up once, and what it returns is a pure function of arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import flax.struct
import jax
import jax.numpy as jnp

from riskpo_jax.algorithms import bundles, group, levels, mvar, official, quantiles, risk
from riskpo_jax.config import AlgorithmConfig
from riskpo_jax.types import TrackerState


@flax.struct.dataclass
class BundledRewards:
    """What an estimator may look at.

    rewards: [K, B, G]. permutations: int32[K, B, G]. scores: [K, G]. tracker: the quantiles of the steps
    before; at step 0 those of this batch. bends: where the risk measure bends.
    """

    rewards: jax.Array
    permutations: jax.Array
    scores: jax.Array
    tracker: TrackerState
    bends: levels.RiskLevels


LevelMetrics = Callable[[levels.RiskLevels], dict[str, jax.Array | float]]
Estimator = Callable[[BundledRewards], jax.Array]  # -> advantages [K, B, G]
AdvantageFn = Callable[
    [jax.Array, jax.Array, TrackerState], tuple[jax.Array, TrackerState, dict[str, jax.Array]]
]

# By --algorithm.bundling: (key, rewards[Q, G]) -> int32[Q], the order in which each run of B is a bundle.
ORDERS: dict[str, Callable[[jax.Array, jax.Array], jax.Array]] = {
    "random": lambda key, rewards_QxG: bundles.random_order(key, len(rewards_QxG)),
    "stratified": lambda key, rewards_QxG: bundles.stratified_order(key, rewards_QxG.mean(axis=1)),
}


def make_advantage_fn(c: AlgorithmConfig) -> AdvantageFn:
    """A pure (key, rewards[Q, G], tracker) -> (advantages[Q, G], next tracker, metrics).

    Every preset keeps bundles and tracker, so that the risk metrics of a baseline can be compared with
    RiskPO's; the group methods just do not read them.
    """
    tracked = tracked_levels(c)
    rule, level_metrics = _LEVELS[c.levels]
    place = partial(rule, tracked=tracked, alpha=c.alpha, beta=c.beta)
    estimator = _ESTIMATORS[c.preset](c)
    order = ORDERS[c.bundling]
    pair = _identity_pairing if c.preset.startswith("official") else bundles.draw_permutations
    step_size = _step_size(c)

    def advantage_fn(key: jax.Array, rewards_QxG: jax.Array, tracker: TrackerState):
        order_key, pairing_key = jax.random.split(key)
        order_Q = order(order_key, rewards_QxG)
        rewards_KxBxG = bundles.to_bundles(rewards_QxG, order_Q, c.bundle_size)
        permutations_KxBxG = pair(pairing_key, rewards_KxBxG.shape)
        scores_KxG = bundles.bundle_scores(rewards_KxBxG, permutations_KxBxG)
        current = quantiles.initialise_if_needed(tracker, scores_KxG, tracked)
        gamma = step_size(tracker.step)
        low, high = c.bundle_size * rewards_QxG.min(), c.bundle_size * rewards_QxG.max()
        bends = place(current, low, high, gamma)
        advantages_KxBxG = estimator(
            BundledRewards(rewards_KxBxG, permutations_KxBxG, scores_KxG, current, bends)
        )
        if c.scale_advantages:
            advantages_KxBxG = divide_by_rms(advantages_KxBxG)
        metrics = risk_metrics(scores_KxG, c.alpha, c.beta, c.omega) | {
            "risk/q_alpha": bends.q_alpha,
            "risk/q_beta": bends.q_beta,
            **level_metrics(bends),
            "group/zero_variance_fraction": zero_variance_fraction(rewards_QxG),
            "advantage/rms": jnp.sqrt(jnp.mean(advantages_KxBxG**2)),
        }
        tracker = quantiles.update(tracker, scores_KxG, tracked, gamma)
        return bundles.from_bundles(advantages_KxBxG, order_Q), tracker, metrics

    return advantage_fn


def tracked_levels(c: AlgorithmConfig) -> tuple[float, ...]:
    """The levels that the tracker follows, ascending: alpha and beta, or the released code's 19, too."""
    many = c.preset.startswith("official") or c.levels == "adaptive"
    extra = quantiles.OFFICIAL_LEVELS if many else ()
    return tuple(sorted({*extra, c.alpha, c.beta}))


def risk_metrics(
    scores_KxG: jax.Array, alpha: float, beta: float, omega: float
) -> dict[str, jax.Array]:
    """Risk measures of the batch's empirical bundle scores, in units of reward, at the levels given."""
    return {
        "risk/mvar": risk.mvar(scores_KxG, alpha, beta, omega),
        "risk/rvar": risk.rvar(scores_KxG, alpha, beta),
        "risk/cvar": risk.cvar(scores_KxG, alpha),
        "bundle/score_mean": scores_KxG.mean(),
        "bundle/zero_variance_fraction": zero_variance_fraction(scores_KxG),
    }


def zero_variance_fraction(values_MxG: jax.Array) -> jax.Array:
    """The fraction of rows whose G values are all equal."""
    return jnp.mean(values_MxG.max(axis=1) == values_MxG.min(axis=1))


def divide_by_rms(values: jax.Array) -> jax.Array:
    """Values over their root mean square; all-zero values stay zero."""
    return values / jnp.maximum(jnp.sqrt(jnp.mean(values**2)), 1e-6)


def _paper(c: AlgorithmConfig) -> Estimator:
    shape = {
        "averse": mvar.mvar_advantage,
        "seeking": mvar.risk_seeking_advantage,
        "neutral": mvar.risk_neutral_advantage,
    }[c.profile]
    centre = {
        "none": lambda values, axis: values,
        "mean": bundles.subtract_mean,
        "leave_one_out": bundles.subtract_leave_one_out_mean,
    }[c.baseline]

    def advantage_of_score(x: BundledRewards) -> Callable[[jax.Array], jax.Array]:
        return partial(shape, q_alpha=x.bends.q_alpha, q_beta=x.bends.q_beta, omega=c.omega)

    def uniform(x: BundledRewards) -> jax.Array:
        advantages_KxG = advantage_of_score(x)(x.scores)
        return bundles.uniform_credit(centre(advantages_KxG, None), x.permutations)

    def expected(x: BundledRewards) -> jax.Array:
        return centre(bundles.expected_credit(x.rewards, advantage_of_score(x)), -1)

    return {"uniform": uniform, "expected": expected}[c.credit]


def _official_released(c: AlgorithmConfig) -> Estimator:
    settings = official.OFFICIAL_RELEASED

    def estimate(x: BundledRewards) -> jax.Array:
        return official.official_advantages(
            x.rewards, alpha=c.alpha, beta=c.beta, tracked=None, **settings
        )

    return estimate


def _official_intended(c: AlgorithmConfig) -> Estimator:
    settings = official.official_intended(c.bundle_size)

    def estimate(x: BundledRewards) -> jax.Array:
        tracked = x.bends.q_alpha, x.bends.q_beta
        compute = partial(
            official.official_advantages, x.rewards, alpha=c.alpha, beta=c.beta, **settings
        )
        return jnp.where(x.tracker.step == 0, compute(tracked=None), compute(tracked=tracked))

    return estimate


def _group(estimate: Callable[[jax.Array], jax.Array]) -> Callable[[AlgorithmConfig], Estimator]:
    return lambda c: lambda x: estimate(x.rewards)


_ESTIMATORS: dict[str, Callable[[AlgorithmConfig], Estimator]] = {
    "paper": _paper,
    "official_released": _official_released,
    "official_intended": _official_intended,
    "grpo": _group(group.grpo),
    "dr_grpo": _group(group.dr_grpo),
    "rloo": _group(group.rloo),
    "dapo": _group(group.grpo),  # DAPO and GSPO differ in the loss
    "gspo": _group(group.grpo),
}


# By --algorithm.levels: the rule, and what it adds to the metrics.
_LEVELS: dict[str, tuple[Callable[..., levels.RiskLevels], LevelMetrics]] = {
    "fixed": (levels.fixed, lambda bends: {}),
    "adaptive": (
        levels.adaptive,
        lambda bends: {"risk/alpha": bends.alpha, "risk/beta": bends.beta},
    ),
}


def _step_size(c: AlgorithmConfig) -> Callable[[jax.Array], jax.Array | float]:
    if c.preset.startswith("official"):  # theirs is fixed
        return partial(quantiles.constant_step_size, initial=0.1)
    return {
        "constant": partial(quantiles.constant_step_size, initial=c.tracker_step_size),
        "polynomial": partial(
            quantiles.polynomial_step_size,
            initial=c.tracker_step_size,
            tau=c.tracker_tau,
            power=c.tracker_power,
        ),
    }[c.tracker_schedule]


def _identity_pairing(key: jax.Array, shape_KxBxG: tuple[int, int, int]) -> jax.Array:
    """The released code joins the n-th responses: no permutation."""
    del key
    return jnp.broadcast_to(jnp.arange(shape_KxBxG[-1]), shape_KxBxG)
