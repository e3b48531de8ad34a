"""Every preset is the composition of the formulas it names, with the tracker before its update."""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.algorithms import bundles, group, levels, mvar, official, quantiles, risk
from riskpo_jax.training.advantages import divide_by_rms, make_advantage_fn, tracked_levels
from riskpo_jax.types import TrackerState

PRESETS = (
    "paper", "official_released", "official_intended", "grpo", "dr_grpo", "rloo", "dapo", "gspo",
)  # fmt: skip
KEY = jax.random.key(3)
Q, G, B = 4, 4, 2


@functools.cache
def jitted(algorithm):
    return jax.jit(make_advantage_fn(algorithm))


@pytest.fixture(scope="module", params=["binary", "graded"])
def rewards(request):
    """Binary, or in [0, 1]: fractions of tests passed, format credit."""
    steps = 1 if request.param == "binary" else 20  # on the grid on which expected credit is exact
    rewards = np.random.default_rng(0).integers(0, steps + 1, (Q, G)).astype(np.float32) / steps
    rewards[1] = 1.0  # an easy question
    if steps > 1:
        rewards[0, 0] = 0.0
    return rewards


def tracker_at(algorithm, step):
    """Ascending values unlike any batch's quantiles, as if `step` updates had been made."""
    values = np.linspace(0.3, 1.6, len(tracked_levels(algorithm)), dtype=np.float32)
    return TrackerState(jnp.asarray(values), jnp.int32(step))


def batch_of(algorithm, rewards):
    """(order, rewards, permutations, scores) as the key decides them."""
    order_key, pairing_key = jax.random.split(KEY)
    if algorithm.bundling == "random":
        order = bundles.random_order(order_key, Q)
    else:
        order = bundles.stratified_order(order_key, rewards.mean(axis=1))
    rewards_KxBxG = bundles.to_bundles(rewards, order, B)
    permutations = bundles.draw_permutations(pairing_key, rewards_KxBxG.shape)
    if algorithm.preset.startswith("official"):
        permutations = jnp.broadcast_to(jnp.arange(G), (Q // B, B, G))
    return order, rewards_KxBxG, permutations, bundles.bundle_scores(rewards_KxBxG, permutations)


def paper_advantages(algorithm, rewards, permutations, scores, q_alpha, q_beta):
    def shape(z):
        return {
            "averse": mvar.mvar_advantage,
            "seeking": mvar.risk_seeking_advantage,
            "neutral": mvar.risk_neutral_advantage,
        }[algorithm.profile](z, q_alpha, q_beta, algorithm.omega)

    if algorithm.credit == "uniform":
        values, axis = shape(scores), None
    else:
        values, axis = bundles.expected_credit(rewards, shape), -1
    if algorithm.baseline == "mean":
        values = bundles.subtract_mean(values, axis)
    if algorithm.baseline == "leave_one_out":
        values = bundles.subtract_leave_one_out_mean(values, axis)
    return bundles.uniform_credit(values, permutations) if axis is None else values


def step_size(algorithm, step):
    if algorithm.preset.startswith("official"):
        return 0.1
    return 0.1 / (1 + step / algorithm.tracker_tau) ** algorithm.tracker_power


def bends_of(algorithm, rewards, scores, tracker):
    a, tracked = algorithm, tracked_levels(algorithm)
    place = levels.fixed if a.levels == "fixed" else levels.adaptive
    return place(
        quantiles.initialise_if_needed(tracker, scores, tracked),
        B * rewards.min(),
        B * rewards.max(),
        step_size(a, int(tracker.step)),
        tracked=tracked,
        alpha=a.alpha,
        beta=a.beta,
    )


def expected_advantages(algorithm, rewards, tracker):
    """[Q, G], by calling the formulas one after another."""
    a = algorithm
    order, rewards_KxBxG, permutations, scores = batch_of(a, rewards)
    q = bends_of(a, rewards, scores, tracker)[2:]
    if a.preset == "paper":
        advantages = paper_advantages(a, rewards_KxBxG, permutations, scores, *q)
    elif a.preset.startswith("official"):
        live = a.preset == "official_intended" and int(tracker.step) > 0
        recipe = official.OFFICIAL_RELEASED
        if a.preset == "official_intended":
            recipe = official.official_intended(B)
        advantages = official.official_advantages(
            rewards_KxBxG, alpha=a.alpha, beta=a.beta, tracked=tuple(q) if live else None, **recipe
        )
    else:
        formula = {"dr_grpo": group.dr_grpo, "rloo": group.rloo}.get(a.preset, group.grpo)
        return formula(rewards)
    return bundles.from_bundles(advantages, order)


CASES = [
    *({"preset": p, "bundling": "random"} for p in PRESETS),
    *({"preset": p, "bundling": "stratified"} for p in PRESETS[:4]),  # then the group is alone
    {"preset": "paper", "credit": "expected", "bundling": "random"},
    {"preset": "paper", "credit": "expected", "bundling": "stratified"},
    {"preset": "paper", "credit": "expected", "baseline": "mean"},
    {"preset": "paper", "credit": "uniform", "baseline": "leave_one_out"},
    {"preset": "paper", "credit": "uniform", "baseline": "mean", "profile": "seeking"},
    {"preset": "paper", "profile": "neutral"},
    {"preset": "paper", "credit": "expected", "levels": "adaptive"},
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: "-".join(case.values()))
def test_every_combination_is_the_composition_of_its_formulas(make_config, rewards, case):
    algorithm = make_config(**{f"algorithm__{k}": v for k, v in case.items()}).algorithm
    advantage_fn = jitted(algorithm)
    for step in (0, 7):
        tracker = tracker_at(algorithm, step)
        found, after, metrics = advantage_fn(KEY, rewards, tracker)
        expected = expected_advantages(algorithm, rewards, tracker)
        assert float(jnp.abs(expected).max()) > 0.05
        np.testing.assert_allclose(found, expected, atol=1e-5)

        tracked, scores = tracked_levels(algorithm), batch_of(algorithm, rewards)[3]
        moved = quantiles.update(tracker, scores, tracked, step_size(algorithm, step))
        np.testing.assert_allclose(after.values, moved.values, atol=1e-6)
        assert int(after.step) == step + 1
        bends = bends_of(algorithm, rewards, scores, tracker)._asdict()
        shown = ("q_alpha", "q_beta") if algorithm.levels == "fixed" else tuple(bends)
        assert {f"risk/{name}" for name in bends} & set(metrics) == {f"risk/{x}" for x in shown}
        for name in shown:
            assert float(metrics[f"risk/{name}"]) == pytest.approx(float(bends[name]), abs=1e-6)


EQUAL_CASES = [{"preset": p, "bundling": "random"} for p in PRESETS] + [
    {"preset": "paper", "credit": "expected", "bundling": "random"},
    {"preset": "paper", "credit": "expected", "levels": "adaptive"},
    {"preset": "grpo", "scale_advantages": True},
]


@pytest.mark.parametrize("case", EQUAL_CASES, ids=lambda case: "-".join(map(str, case.values())))
def test_equal_rewards_give_finite_advantages(make_config, case):
    algorithm = make_config(**{f"algorithm__{k}": v for k, v in case.items()}).algorithm
    advantage_fn = jitted(algorithm)
    for reward, step in itertools.product((0.0, 1.0), (0, 7)):
        rewards = np.full((Q, G), reward, np.float32)
        found, after, metrics = advantage_fn(KEY, rewards, tracker_at(algorithm, step))
        for value in jax.tree.leaves((found, after, metrics)):
            assert np.isfinite(value).all()
        assert float(metrics["group/zero_variance_fraction"]) == 1
        assert float(metrics["bundle/zero_variance_fraction"]) == 1
        if case["preset"].endswith(("grpo", "rloo", "dapo", "gspo")) or "credit" in case:
            np.testing.assert_array_equal(found, 0)


def test_adaptive_levels_do_not_depend_on_how_rewards_are_written(make_config, rewards):
    """Rewards in [-1, 1] give twice the advantages of those in [0, 1]."""
    algorithm = make_config(algorithm__levels="adaptive", algorithm__credit="expected").algorithm
    advantage_fn, tracker = jitted(algorithm), tracker_at(algorithm, 0)
    found, _, metrics = advantage_fn(KEY, 2 * rewards - 1, tracker)
    expected, _, plain = advantage_fn(KEY, rewards, tracker)
    np.testing.assert_allclose(found, 2 * expected, atol=1e-5)
    for name in ("risk/alpha", "risk/beta"):
        assert float(metrics[name]) == pytest.approx(float(plain[name]), abs=1e-6)


def test_hard_questions_keep_an_advantage_under_adaptive_levels_only(make_config):
    """One right response of sixteen: more than beta of the bundles are all wrong."""
    rewards = np.zeros((Q, G), np.float32)
    rewards[2, 1] = 1
    for name, lowest, highest in (("fixed", 0, 0), ("adaptive", 0.5, np.inf)):
        algorithm = make_config(algorithm__levels=name, algorithm__credit="expected").algorithm
        found, _, _ = jitted(algorithm)(KEY, rewards, tracker_at(algorithm, 0))
        assert lowest <= float(found[2, 1]) <= highest


def test_a_live_tracker_tells_the_intended_code_from_the_released(make_config, rewards):
    def advantages(preset, step):
        algorithm = make_config(algorithm__preset=preset, algorithm__bundling="random").algorithm
        tracker = tracker_at(algorithm, step)
        return jitted(algorithm)(KEY, rewards, tracker)[0]

    first, live = (advantages("official_released", step) for step in (0, 7))
    np.testing.assert_array_equal(first, live)  # theirs never looks at the tracker
    assert float(jnp.abs(advantages("official_intended", 7) - live).max()) > 0.1


def test_metrics_are_of_the_batch(make_config, rewards):
    algorithm = make_config(algorithm__scale_advantages=True).algorithm
    found, _, metrics = make_advantage_fn(algorithm)(KEY, rewards, tracker_at(algorithm, 7))
    scores = batch_of(algorithm, rewards)[3]
    assert float(metrics["risk/mvar"]) == pytest.approx(float(risk.mvar(scores, 0.2, 0.8, 0.5)))
    assert float(metrics["risk/rvar"]) == pytest.approx(float(risk.rvar(scores, 0.2, 0.8)))
    assert float(metrics["risk/cvar"]) == pytest.approx(float(risk.cvar(scores, 0.2)))
    assert float(metrics["bundle/score_mean"]) == pytest.approx(B * rewards.mean())
    constant = (rewards == rewards[:, :1]).all(axis=1).mean()
    assert 0 < float(metrics["group/zero_variance_fraction"]) == constant < 1
    assert float(jnp.sqrt((found**2).mean())) == pytest.approx(1, rel=1e-5)


def test_the_tracker_schedule_is_the_chosen_one(make_config, rewards):
    moves = {}
    for schedule in ("constant", "polynomial"):
        algorithm = make_config(
            algorithm__tracker_schedule=schedule,
            algorithm__tracker_step_size=0.2,
            algorithm__tracker_tau=10.0,
            algorithm__tracker_power=1.0,
        ).algorithm
        tracker = tracker_at(algorithm, 30)
        after = make_advantage_fn(algorithm)(KEY, rewards, tracker)[1]
        moves[schedule] = np.asarray(after.values - tracker.values)
    assert np.abs(moves["constant"]).max() > 0.01
    np.testing.assert_allclose(moves["constant"], 4 * moves["polynomial"], atol=1e-6)


def test_zero_advantages_stay_zero_when_scaled():
    np.testing.assert_array_equal(divide_by_rms(jnp.zeros(3)), 0)
