"""Everything that one cell says: one policy at one temperature, on questions of one kind.

A cell's M questions with G responses each are bundled as in training, a step's worth of questions at a
time. Quantiles are those of all the cell's scores, which is what the tracker converges to while the
policy stands still. Intervals are bootstrapped over questions, for single responses, and over bundles.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from riskpo_jax.algorithms import mvar, risk
from riskpo_jax.diagnostics import covariance as cov
from riskpo_jax.diagnostics.psi import VERDICTS, Comparison, Psi, compare, estimate_psi, verdict
from riskpo_jax.diagnostics.resampling import bootstrap_weights, percentile_interval
from riskpo_jax.evaluation.bootstrap import Interval

PROFILES = {
    "mean": mvar.risk_neutral_advantage,
    "averse": mvar.mvar_advantage,
    "seeking": mvar.risk_seeking_advantage,
}
SCALES = {  # credit -> the moments of its advantages, and its covariance at unit size
    "uniform, no baseline": (cov.uniform_moments, cov.covariance_at_unit_rms),
    "uniform, mean baseline": (cov.uniform_moments, cov.covariance_at_unit_deviation),
    "expected": (cov.expected_moments, cov.covariance_at_unit_rms),
}
LOGPROBS = ("log pi", "log pi per token", "log pi within question")
_RESAMPLES = 2000


class Settings(NamedTuple):
    """As in training. order: (key, rewards[Q, G]) -> int[Q], what decides who shares a bundle."""

    order: Callable[[jax.Array, jax.Array], jax.Array]
    questions_per_step: int
    bundle_size: int
    alpha: float
    beta: float
    omega: float
    redraws: int = 8


def measure(
    rewards_MxG: np.ndarray, logprobs_MxG: np.ndarray, lengths_MxG: np.ndarray, settings: Settings
) -> dict[str, Any]:
    """A JSON object: `psi` and `assumption_1` of single responses and of bundles, `covariance`, `theorem_2`.

    rewards, log-probabilities (summed over tokens, nats) and lengths (tokens) of M >= B questions' G >= 2
    responses. Intervals are [low, high].
    """
    order_key, pairing_key = jax.random.split(jax.random.key(0))
    order = bundle_order(order_key, rewards_MxG, settings)
    bundle = cov.bundled(
        pairing_key,
        rewards_MxG,
        logprobs_MxG,
        lengths_MxG,
        order,
        settings.bundle_size,
        settings.redraws,
    )
    weights_DxK = bootstrap_weights(len(bundle.scores), _RESAMPLES)
    weights_DxM = bootstrap_weights(len(rewards_MxG), _RESAMPLES)
    single = _three_logprobs(logprobs_MxG, lengths_MxG, cov.surprise(logprobs_MxG))
    whole = _three_logprobs(bundle.logprobs, bundle.lengths, bundle.surprise_S)
    q_alpha, q_beta = _quantiles(bundle.scores, settings)
    return {
        "questions": len(rewards_MxG),
        "bundles": len(bundle.scores),
        "reward": float(rewards_MxG.mean()),
        "entropy": -float(logprobs_MxG.mean()),
        "response_length": float(lengths_MxG.mean()),
        "q_alpha": q_alpha,
        "q_beta": q_beta,
        "single": {
            name: assess(rewards_MxG, values, weights_DxM, *_quantiles(rewards_MxG, settings))
            for name, values in single.items()
        },
        "bundle": {
            name: assess(bundle.scores, values, weights_DxK, q_alpha, q_beta)
            for name, values in whole.items()
        },
        **entropy_costs(bundle, weights_DxK, q_alpha, q_beta, settings.omega),
    }


def bundle_order(key: jax.Array, rewards_MxG: np.ndarray, settings: Settings) -> np.ndarray:
    """int[K * B]: the questions in the order in which each run of B is a bundle, a step at a time.

    What no bundle of its step has room for is left out.
    """
    starts = range(0, len(rewards_MxG), settings.questions_per_step)
    parts = []
    keys = jax.random.split(key, len(starts))
    for step_key, start in zip(keys, starts, strict=True):
        rewards_QxG = rewards_MxG[start : start + settings.questions_per_step]
        whole = len(rewards_QxG) // settings.bundle_size * settings.bundle_size
        parts.append(start + np.asarray(settings.order(step_key, jnp.asarray(rewards_QxG[:whole]))))
    return np.concatenate(parts)


def assess(
    scores_UxS: np.ndarray,
    logprobs_UxS: np.ndarray,
    weights_DxU: np.ndarray,
    q_alpha: float,
    q_beta: float,
) -> dict[str, Any]:
    """psi with 95% intervals, and the verdict on Assumption 1 with what it rests on."""
    psi = estimate_psi(scores_UxS, logprobs_UxS, weights_DxU, cuts=(q_alpha, q_beta))
    compared = compare(psi, q_alpha, q_beta)
    return {
        "mean": psi.mean,
        "psi": _psi_rows(psi),
        "verdict": verdict(compared),
        "comparisons": [_comparison_row(c) for c in compared],
    }


def entropy_costs(
    bundle: cov.Bundled, weights_DxK: np.ndarray, q_alpha: float, q_beta: float, omega: float
) -> dict[str, Any]:
    """Covariances of each risk profile and credit, and whether MVaR's is at most the mean's.

    Theorem 2 is about the raw advantages; both credits have one expectation there, so it is tested with
    the one of less noise. Beside it: the same at unit RMS, and with the covariance over all bundle
    samples, differences between questions included, as the paper's notation can be read.
    """
    # The first row weighs all bundles alike: the estimate itself. The others are the bootstrap's.
    K = len(bundle.scores)
    weights = np.concatenate([np.full((1, K), 1 / K), weights_DxK])
    rows, raw, unit, pooled = [], {}, {}, {}
    for profile, formula in PROFILES.items():
        advantage_of = partial(formula, q_alpha=q_alpha, q_beta=q_beta, omega=omega)
        for credit, (moments_of, at_unit_size) in SCALES.items():
            moments = cov.averaged(moments_of(bundle, advantage_of), weights)
            raw[profile, credit] = cov.covariance(moments)
            unit[profile, credit] = at_unit_size(moments)
            values = {"raw": raw[profile, credit], "unit": unit[profile, credit]}
            rows.append({"profile": profile, "credit": credit} | _named_intervals(values))
        advantages_KxS = np.asarray(advantage_of(jnp.asarray(bundle.scores)))
        pooled[profile] = _pooled_covariance(bundle.logprobs, advantages_KxS, weights)
    expected, bundle_size = "expected", bundle.rewards.shape[1]
    differences = {
        "raw": raw["mean", expected] - raw["averse", expected],
        "unit": unit["mean", expected] - unit["averse", expected],
        "pooled": (pooled["mean"] - pooled["averse"]) / bundle_size,
    }
    theorem = {name: _theorem_row(values) for name, values in differences.items()}
    return {"covariance": rows, "theorem_2": theorem}


def failures(cells: list[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """How many cells of a measurement end with each verdict: a row a test."""
    found = []
    for scores in ("single", "bundle"):
        for name in LOGPROBS:
            verdicts = [cell[scores][name]["verdict"] for cell in cells]
            found.append({"test": f"Assumption 1, {scores}: {name}"} | _counts(verdicts))
    for name in ("raw", "unit", "pooled"):
        verdicts = [cell["theorem_2"][name]["verdict"] for cell in cells]
        found.append({"test": f"Theorem 2: {name}"} | _counts(verdicts))
    return found


def _counts(verdicts: list[str]) -> dict[str, int]:
    return {name: verdicts.count(name) for name in VERDICTS}


def _three_logprobs(
    logprobs: np.ndarray, lengths: np.ndarray, surprise: np.ndarray
) -> dict[str, np.ndarray]:
    values = (logprobs, logprobs / np.maximum(lengths, 1), surprise)
    return dict(zip(LOGPROBS, values, strict=True))


def _quantiles(scores: np.ndarray, settings: Settings) -> tuple[float, float]:
    levels = jnp.array([settings.alpha, settings.beta])
    q_alpha, q_beta = np.asarray(risk.quantile(jnp.asarray(scores), levels)).tolist()
    return q_alpha, q_beta


def _pooled_covariance(x_KxS: np.ndarray, y_KxS: np.ndarray, weights_DxK: np.ndarray) -> np.ndarray:
    """Over all samples of all bundles."""
    x_D, y_D, xy_D = (weights_DxK @ v.mean(axis=1) for v in (x_KxS, y_KxS, x_KxS * y_KxS))
    return xy_D - x_D * y_D


def _psi_rows(psi: Psi) -> list[dict[str, Any]]:
    """A row an atom. Of one unit alone the bootstrap draws the same value again and again: no interval."""
    unknown = [float("nan")] * 2
    return [
        {
            "score": float(score),
            "share": float(psi.shares_A[a]),
            "units": int(psi.units_A[a]),
            "psi": float(psi.means_A[a]),
            "psi_95": _ends(percentile_interval(psi.means_A[a], psi.draws_DxA[:, a]))
            if psi.units_A[a] >= 2
            else unknown,
        }
        for a, score in enumerate(psi.atoms_A)
    ]


def _comparison_row(c: Comparison) -> dict[str, Any]:
    row = {"kind": c.kind, "at": c.at, "beside": c.beside, "verdict": c.verdict}
    return row | {"difference": c.difference.mean, "interval": _ends(c.difference)}


def _named_intervals(values: Mapping[str, np.ndarray]) -> dict[str, Any]:
    row = {}
    for name, (estimate, *draws) in values.items():
        interval = percentile_interval(estimate, np.array(draws))
        row |= {name: interval.mean, f"{name}_95": _ends(interval)}
    return row


def _theorem_row(differences: np.ndarray) -> dict[str, Any]:
    """Of Cov(log pi, A_mean) - Cov(log pi, A_MVaR), which the theorem says is at least 0."""
    interval = percentile_interval(differences[0], differences[1:])
    found = Comparison("theorem 2", float("nan"), None, interval).verdict
    return {"difference": interval.mean, "difference_95": _ends(interval), "verdict": found}


def _ends(interval: Interval) -> list[float]:
    return [interval.low, interval.high]
