"""The released code's advantage against a loop written after it, and against the paper's."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.algorithms.mvar import mvar_advantage
from riskpo_jax.algorithms.official import (
    OFFICIAL_RELEASED,
    official_advantages,
    official_intended,
)
from riskpo_jax.errors import UserError

EPSILON = 1e-6
RISKS = ["mix", "seek", "rvar"]
SOURCES = ["track", "batch", "mix"]
CREDITS = ["uniform", "score", "std", "sum-mean"]

advantages = functools.partial(
    official_advantages, alpha=0.2, beta=0.8, w_mix=1.5, upper_weight=2.5
)


def std_oracle(values):
    return 1.0 if len(values) == 1 else np.std(values, ddof=1)


def official_oracle(
    rewards, risk, quantile_source, tracked, natural_baseline, std_normalize, credit, sigma_floor=0
):
    """Bundle by bundle and response by response, in float64."""
    alpha, beta, w, u = 0.2, 0.8, 1.5, 2.5
    rewards = rewards.astype(np.float64)
    bundles, questions, responses = rewards.shape
    out = np.zeros(rewards.shape)
    for k in range(bundles):
        z = [sum(rewards[k, i, n] for i in range(questions)) for n in range(responses)]
        q = [np.quantile(z, level) for level in (alpha, beta)]
        if tracked is not None and quantile_source == "track":
            q = list(tracked)
        if tracked is not None and quantile_source == "mix":
            q = [(own + other) / 2 for own, other in zip(q, tracked, strict=True)]
        a, b = q
        for n in range(responses):
            middle = max(z[n] - a, 0) - max(z[n] - b, 0)
            if natural_baseline:
                middle += a - b
            value = middle / (beta - alpha + EPSILON)
            if risk == "mix":
                value = (w * -max(a - z[n], 0) / (alpha + EPSILON) + value) / (w + 1)
            if risk == "seek":
                value = (u * max(z[n] - b, 0) / (1 - beta + EPSILON) + value) / (u + 1)
            if std_normalize:
                value /= max(std_oracle(z), sigma_floor) + EPSILON
            r = [rewards[k, i, n] - rewards[k, i].mean() for i in range(questions)]
            for i in range(questions):
                if credit == "uniform":
                    share = 1.0
                elif credit == "score":
                    share = 0.5 if rewards[k, i, n] > 0 else 1.5
                elif credit == "std":
                    sigma = std_oracle(rewards[k, i])
                    share = 1 / ((sigma if sigma > 1e-3 else 1.0) + EPSILON)
                elif abs(sum(r)) > 1e-6:
                    share = r[i] / sum(r)
                else:
                    share = 1 / questions
                out[k, i, n] = value * share
    return out


@functools.cache
def reward_cases():
    random = np.random.default_rng(0)
    binary = random.integers(0, 2, (3, 4, 5)).astype(np.float32)
    binary[0, 1] = 1  # A solved question.
    graded = random.integers(0, 5, (3, 4, 5)).astype(np.float32) / 4
    return [binary, 2 * binary - 1, graded]


@pytest.mark.parametrize("std_normalize", [False, True])
@pytest.mark.parametrize("natural_baseline", [False, True])
@pytest.mark.parametrize("credit", CREDITS)
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("risk", RISKS)
def test_every_combination_against_loops(risk, source, credit, natural_baseline, std_normalize):
    choices = {
        "risk": risk,
        "quantile_source": source,
        "natural_baseline": natural_baseline,
        "std_normalize": std_normalize,
        "credit": credit,
        "tracked": (1.3, 2.6),
        "sigma_floor": 0.4,
    }
    for rewards in reward_cases():
        expected = official_oracle(rewards, **choices)
        np.testing.assert_allclose(advantages(rewards, **choices), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("source", SOURCES)
def test_before_the_first_tracked_value_every_source_is_the_batch(source):
    choices = {
        "risk": "mix",
        "natural_baseline": True,
        "std_normalize": False,
        "credit": "uniform",
        "tracked": None,
    }
    rewards = reward_cases()[0]
    expected = official_oracle(rewards, quantile_source="batch", **choices)
    found = advantages(rewards, quantile_source=source, **choices)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("alpha, beta, w", [(0.2, 0.8, 1.5), (0.2, 0.9, 1.5), (0.1, 0.6, 0.4)])
def test_with_its_natural_baseline_it_is_the_paper_scaled(alpha, beta, w):
    """(w + 1)(beta - alpha) A = A_paper with 1 + omega = w (beta - alpha) / alpha."""
    rewards = reward_cases()[2]
    tracked = (1.3, 2.6)
    found = official_advantages(
        rewards,
        alpha=alpha,
        beta=beta,
        w_mix=w,
        upper_weight=0.0,
        risk="mix",
        quantile_source="track",
        tracked=tracked,
        natural_baseline=True,
        std_normalize=False,
        credit="uniform",
    )
    omega = w * (beta - alpha) / alpha - 1
    expected = mvar_advantage(rewards.sum(axis=1), *tracked, omega)[:, None, :]
    scaled = (w + 1) * (beta - alpha) * found
    np.testing.assert_allclose(
        scaled, np.broadcast_to(expected, rewards.shape), rtol=1e-4, atol=1e-5
    )


def test_their_weight_is_an_omega_of_three_and_a_half():
    assert 1.5 * (0.8 - 0.2) / 0.2 - 1 == pytest.approx(3.5)


@pytest.mark.parametrize("credit", CREDITS)
@pytest.mark.parametrize("risk", RISKS)
@pytest.mark.parametrize("shape", [(2, 5, 10), (1, 3, 8), (1, 10, 3), (1, 5, 1), (1, 1, 1)])
def test_equal_rewards_give_the_released_code_no_advantage(risk, credit, shape):
    preset = dict(OFFICIAL_RELEASED, risk=risk, credit=credit)
    for value in (0.0, 1.0, -1.0, 0.3, 0.7):
        rewards = np.full(shape, value, np.float32)
        found = official_advantages(rewards, alpha=0.2, beta=0.8, tracked=None, **preset)
        np.testing.assert_array_equal(found, np.zeros(shape))


def test_it_jits_with_traced_quantiles_and_static_names():
    names = ["risk", "quantile_source", "natural_baseline", "std_normalize", "credit"]
    compiled = jax.jit(official_advantages, static_argnames=names)
    choices = dict(official_intended(4), alpha=0.2, beta=0.8, tracked=(1.3, 2.6))
    rewards = reward_cases()[2]
    expected = official_advantages(rewards, **choices)
    np.testing.assert_allclose(compiled(rewards, **choices), expected, rtol=1e-5, atol=1e-6)


def test_a_floor_on_sigma_holds_an_equal_bundle_with_a_live_tracker():
    rewards = np.zeros((1, 5, 10), np.float32)

    def largest(preset):
        return float(jnp.abs(official_advantages(rewards, alpha=0.2, beta=0.8, **preset)).max())

    intended = dict(official_intended(5), tracked=(1.0, 3.0))
    assert intended["sigma_floor"] == pytest.approx(0.5)
    assert largest(dict(intended, sigma_floor=0.0)) > 1e5
    assert 0 < largest(intended) < 10


def test_sum_mean_shares_sum_to_the_advantage_of_the_bundle_sample():
    choices = {
        "risk": "mix",
        "quantile_source": "batch",
        "tracked": None,
        "natural_baseline": True,
        "std_normalize": False,
    }
    for rewards in reward_cases():
        whole = advantages(rewards, credit="uniform", **choices)[:, 0]
        shares = advantages(rewards, credit="sum-mean", **choices)
        np.testing.assert_allclose(shares.sum(axis=1), whole, rtol=1e-4, atol=1e-5)


def test_sum_mean_divides_equally_where_the_deviations_cancel():
    # Response 0: one question above its mean by as much as the other is below.
    rewards = np.array([[[1.0, 0.0], [0.0, 1.0]]], np.float32)
    found = advantages(
        rewards,
        risk="mix",
        quantile_source="track",
        tracked=(2.0, 3.0),
        natural_baseline=True,
        std_normalize=False,
        credit="sum-mean",
    )
    np.testing.assert_allclose(found[0, 0], found[0, 1])
    assert (np.array(found) < 0).all()


def test_the_presets_are_frozen_and_complete():
    with pytest.raises(TypeError):
        OFFICIAL_RELEASED["w_mix"] = 0.5
    released = official_advantages(
        reward_cases()[0], alpha=0.2, beta=0.8, tracked=(0.0, 0.1), **OFFICIAL_RELEASED
    )
    unseen = official_advantages(
        reward_cases()[0], alpha=0.2, beta=0.8, tracked=None, **OFFICIAL_RELEASED
    )
    np.testing.assert_array_equal(released, unseen)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"risk": "cvar"}, "unknown risk 'cvar': choose one of mix, seek, rvar"),
        ({"quantile_source": "live"}, "unknown quantile source 'live'"),
        ({"credit": "shapley"}, "unknown credit 'shapley'"),
    ],
)
def test_unknown_names_are_errors(setting, message):
    with pytest.raises(UserError, match=message):
        official_advantages(
            jnp.zeros((1, 2, 3)),
            alpha=0.2,
            beta=0.8,
            tracked=None,
            **dict(OFFICIAL_RELEASED, **setting),
        )
