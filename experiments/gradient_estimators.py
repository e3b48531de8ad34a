"""The estimators whose gradients `experiments.gradient_noise` compares."""

from __future__ import annotations

from dataclasses import replace

from riskpo_jax.config import AlgorithmConfig, Config
from riskpo_jax.config_rules import resolve

MEAN_REWARD = "mean reward"  # what directions are compared with; beside it, for each bundling:
EXPECTED_MVAR = {name: f"MVaR, expected, {name}" for name in ("random", "stratified")}
PAPER = "MVaR, uniform, random"  # what signal-to-noise is compared with
_SHARED = (
    *("alpha", "beta", "omega", "bundle_size"),
    *("tracker_step_size", "tracker_schedule", "tracker_tau", "tracker_power"),
)


def estimators() -> dict[str, dict[str, str]]:
    """Name -> the settings of its algorithm that are not by default."""
    paper = {"preset": "paper", "profile": "averse"}
    uniform, expected = {"credit": "uniform"}, {"credit": "expected"}
    seeking = {"preset": "paper", "profile": "seeking"}
    found = {MEAN_REWARD: paper | expected | {"profile": "neutral"}}
    found |= {name: {"preset": name} for name in ("grpo", "dr_grpo", "rloo")}
    for bundling in EXPECTED_MVAR:
        paper = paper | {"bundling": bundling}
        found |= {
            f"MVaR, uniform, {bundling}": paper | uniform,
            f"MVaR, uniform - mean, {bundling}": paper | uniform | {"baseline": "mean"},
            EXPECTED_MVAR[bundling]: paper | expected,
        }
    return found | {
        "seeking, uniform - mean, random": seeking | uniform | {"baseline": "mean"},
        "seeking, expected, random": seeking | expected,
        "official_released": {"preset": "official_released"},
    }


def configs_of(config: Config) -> dict[str, Config]:
    """The configuration with each estimator's algorithm: name -> configuration.

    Alpha, beta, omega, bundle size and tracker are the configuration's; whatever else tells one method
    from another (bundling, levels, ...) is the estimator's own, as stated there or by default. So the
    gradient is that of the objective alone: no KL penalty and no entropy bonus. An estimator averages
    over tokens as its preset does.

    Raises:
      UserError: settings that contradict an estimator.
    """
    shared = {name: getattr(config.algorithm, name) for name in _SHARED}
    return {
        name: resolve(replace(config, algorithm=AlgorithmConfig(**shared, **settings)))
        for name, settings in estimators().items()
    }
