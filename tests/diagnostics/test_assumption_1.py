"""What a cell says, on responses whose truth is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.algorithms import bundles
from riskpo_jax.diagnostics.assumption_1 import (
    LOGPROBS,
    Settings,
    assess,
    bundle_order,
    failures,
    measure,
)
from riskpo_jax.diagnostics.resampling import bootstrap_weights

SETTINGS = Settings(
    order=lambda key, rewards: bundles.stratified_order(key, rewards.mean(axis=1)),
    questions_per_step=10,
    bundle_size=5,
    alpha=0.2,
    beta=0.8,
    omega=0.5,
    redraws=2,
)


def cell(slope: float) -> dict:
    """400 questions, 8 responses each; a right one is `slope` nats likelier than a wrong one."""
    rng = np.random.default_rng(0)
    rewards = rng.binomial(1, 0.5, (400, 8)).astype(np.float32)
    logprobs = (slope * rewards - 6 + rng.normal(0, 0.2, rewards.shape)).astype(np.float32)
    return measure(rewards, logprobs, np.full_like(rewards, 3), SETTINGS)


@pytest.fixture(scope="module")
def likelier():
    return cell(2.0)


def test_a_likelier_right_answer_violates_the_lower_half_and_costs_entropy(likelier):
    """psi rises by 2 a point: what is very bad is the least likely of all."""
    found = likelier["bundle"]["log pi"]
    slopes = np.diff([row["psi"] for row in found["psi"]])
    np.testing.assert_allclose(slopes, 2, atol=0.3)
    assert found["verdict"] == "violated"
    assert {c["verdict"] for c in found["comparisons"] if c["kind"] == "rising"} == {"holds"}
    # Cov(log pi, s) of a question is 2 Var(s), s fair.
    rows = {(r["profile"], r["credit"]): r for r in likelier["covariance"]}
    assert rows["mean", "expected"]["raw"] == pytest.approx(0.5, abs=0.02)
    assert rows["mean", "uniform, mean baseline"]["raw"] == pytest.approx(0.5, abs=0.05)
    assert likelier["theorem_2"]["raw"]["verdict"] == "holds"  # its condition is not necessary


def test_a_less_likely_right_answer_gains_entropy():
    rows = {(r["profile"], r["credit"]): r for r in cell(-2.0)["covariance"]}
    assert rows["mean", "expected"]["raw_95"][1] < 0


def test_log_probabilities_per_token_and_entropy(likelier):
    assert set(likelier["bundle"]) == set(LOGPROBS)
    means = {name: found["mean"] for name, found in likelier["bundle"].items()}
    assert means["log pi per token"] == pytest.approx(means["log pi"] / 15, rel=1e-5)
    assert means["log pi within question"] == pytest.approx(0, abs=1e-3)
    assert likelier["entropy"] == pytest.approx(-means["log pi"] / 5, rel=1e-5)


def test_a_score_of_one_bundle_has_no_interval():
    """Every bootstrap draw that has it has the same mean: a bar of no height would look certain."""
    scores = np.tile([0.0, 1.0], (20, 2))
    scores[3, 0] = 2.0
    logprobs = np.random.default_rng(0).normal(size=scores.shape)
    rows = assess(scores, logprobs, bootstrap_weights(20, 50), 0.0, 1.0)["psi"]
    assert [row["units"] for row in rows] == [20, 20, 1]
    widths = [row["psi_95"][1] - row["psi_95"][0] for row in rows]
    assert min(widths[:2]) > 0 and np.isnan(widths[2])


def test_verdicts_are_counted(likelier):
    rows = failures([likelier, likelier])
    assert all(sum(count for key, count in row.items() if key != "test") == 2 for row in rows)
    assert next(r for r in rows if r["test"] == "Assumption 1, bundle: log pi")["violated"] == 2


def test_bundles_are_of_one_step_and_what_is_left_over_is_left_out():
    rewards = np.random.default_rng(1).binomial(1, 0.5, (27, 4)).astype(np.float32)
    order = bundle_order(jax.random.key(0), rewards, SETTINGS)
    assert sorted(order.tolist()) == list(range(25))
    for start in (0, 10, 20):
        rates = rewards[order[start : start + 10]].mean(axis=1)
        assert (np.diff(rates) >= 0).all()
        assert set(order[start : start + 10].tolist()) <= set(range(start, start + 10))
    assert jnp.asarray(order).dtype == jnp.int32
