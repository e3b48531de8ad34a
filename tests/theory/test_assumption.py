"""Theorem 2: what it needs, that it then holds, and policies where it or its meaning fails."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms.mvar import mvar_advantage, risk_neutral_advantage
from riskpo_jax.theory import assumption, bundle, distribution, entropy, examples, policy

ALPHA, BETA, OMEGA = 0.2, 0.8, 0.5
# A third of the valley-shaped policies satisfy the assumption, a tenth of arbitrary ones its second half.
filtered = [HealthCheck.filter_too_much]
quick = settings(deadline=None, max_examples=60, suppress_health_check=filtered)


@jax.jit
def study(log_masses_S, scores_S, omega):
    """What Theorem 2 speaks of, with the advantages that `algorithms/mvar.py` has.

    Of the mean's advantage and of MVaR's, in this order: their covariances with log pi and with the
    reward, and their standard deviations.
    """
    masses_S = jnp.exp(log_masses_S)
    quantiles = [distribution.quantile(scores_S, masses_S, level) for level in (ALPHA, BETA)]
    advantages = (
        risk_neutral_advantage(scores_S, *quantiles, omega),
        mvar_advantage(scores_S, *quantiles, omega),
    )
    arguments = log_masses_S, scores_S, ALPHA, BETA
    return {
        "advantages": advantages,
        "lost": [policy.covariance(masses_S, log_masses_S, a) for a in advantages],
        "gained": [policy.covariance(masses_S, scores_S, a) for a in advantages],
        "deviations": [jnp.sqrt(policy.covariance(masses_S, a, a)) for a in advantages],
        "terms": assumption.preserved_entropy(*arguments, omega),
        "psi": assumption.conditional_log_probability(log_masses_S, scores_S),
        "above": assumption.tails_above_mean(*arguments),
        "monotone": assumption.tails_monotone(*arguments),
        "assumption": assumption.satisfies_assumption_1(*arguments),
    }


@jax.jit
def change_after_natural_step(logits, advantages, step_size):
    return entropy.change(logits, entropy.natural_step(advantages, step_size))


@jax.jit
def change_after_vanilla_step(logits, advantages, step_size):
    return entropy.change(logits, entropy.vanilla_step(logits, advantages, step_size))


tuples = jax.jit(bundle.sum_over_questions)
one_right_answer = jax.jit(examples.one_right_answer)


def log_masses_of(example):
    """(log masses, scores) of what a function of `examples.py` returns."""
    logits, rewards = jax.jit(example)()
    return np.array(jax.nn.log_softmax(logits)), np.array(rewards)


# Six levels of reward shared by 30 responses, one of each level at least: one shape, one compilation.
counts_6 = st.lists(st.integers(0, 24), min_size=5, max_size=5).map(
    lambda cuts: np.diff([0, *sorted(cuts), 24]) + 1
)
heights_6 = st.lists(st.integers(-200, 200).map(lambda i: i / 100), min_size=6, max_size=6)
omegas = st.integers(0, 30).map(lambda i: i / 10)


def repeated(log_weights, counts):
    levels = np.repeat(np.arange(len(counts)), counts)
    log_weights = np.array(log_weights)[levels]
    return log_weights - np.logaddexp.reduce(log_weights), levels.astype(float)


@quick
@given(counts=counts_6, heights=heights_6, omega=omegas)
def test_the_difference_is_the_sum_of_the_two_tails(counts, heights, omega):
    """For any policy at all: `A_mean - A_MVaR = q_beta + omega (q_alpha - z)+ + (z - q_beta)+`."""
    found = study(*repeated(heights, counts), omega)
    lost_by_mean, lost_by_mvar = found["lost"]
    np.testing.assert_allclose(lost_by_mean - lost_by_mvar, sum(found["terms"]), atol=1e-12)


@quick
@given(counts=counts_6, heights=heights_6, valley=st.integers(0, 5), omega=omegas)
def test_theorem_2_holds_under_assumption_1(counts, heights, valley, omega):
    """A valley-shaped psi, where its tails are above the mean."""
    shape = sorted(heights[:valley], reverse=True) + sorted(heights[valley:])
    found = study(*repeated(shape, counts), omega)
    assume(found["assumption"])
    lost_by_mean, lost_by_mvar = found["lost"]
    assert min(found["terms"]) >= -1e-12
    assert lost_by_mvar <= lost_by_mean + 1e-12


@pytest.mark.parametrize("order", [1, -1], ids=["upper", "lower"])
def test_tails_above_the_mean_need_not_be_monotone(order):
    """psi rises and falls within one of the tails; the inequality holds all the same."""
    heights, counts = [1.0, 0.0, 0.0, 2.0, 1.0, 1.5], [3, 10, 14, 1, 1, 1]
    found = study(*repeated(heights[::order], counts[::order]), OMEGA)
    assert found["above"] and not found["monotone"]
    assert found["lost"][1] < found["lost"][0] - 1e-2


def test_monotone_tails_are_not_enough():
    """psi falls from above the mean to below it inside the lower tail: MVaR loses more entropy."""
    counts = [1, 8, 34, 1]
    log_masses, scores = repeated(np.log([0.11, 0.009, 0.009, 0.512]), counts)
    found = study(log_masses, scores, OMEGA)
    assert found["psi"][0] > log_masses @ np.exp(log_masses) > found["psi"][1]
    assert found["monotone"] and not found["above"]
    assert found["lost"][1] > found["lost"][0] + 0.05


def test_psi_is_a_conditional_mean():
    log_masses = np.log([0.1, 0.3, 0.4, 0.2])
    scores = np.array([2.0, 1.0, 2.0, 1.0])
    found = study(log_masses, scores, OMEGA)["psi"]
    two = (0.1 * np.log(0.1) + 0.4 * np.log(0.4)) / 0.5
    one = (0.3 * np.log(0.3) + 0.2 * np.log(0.2)) / 0.5
    np.testing.assert_allclose(found, [two, one, two, one], rtol=1e-12)


def test_an_example_has_the_levels_it_was_given():
    log_masses, rewards = log_masses_of(examples.mvar_moves_less)
    np.testing.assert_allclose(np.exp(log_masses), [0.05] * 5 + [0.145] * 4 + [0.17], rtol=1e-12)
    np.testing.assert_array_equal(rewards, [0] * 5 + [1] * 4 + [2])


@pytest.mark.parametrize("step_size", [0.01, 0.3, 1.0])
def test_the_counterexample_loses_more_entropy_to_mvar(step_size):
    """By the covariance, and after steps of every size."""
    log_masses, rewards = log_masses_of(examples.counterexample)
    found = study(log_masses, rewards, OMEGA)
    assert not found["assumption"]
    # (1 + omega) 0.1 (E log pi - log 0.1), by hand.
    expected = 0.15 * (0.2 * np.log(0.1) + 0.8 * np.log(0.8) - np.log(0.1))
    np.testing.assert_allclose(found["lost"], [0, expected], atol=1e-12)

    change_of_mean, change_of_mvar = (
        change_after_natural_step(log_masses, a, step_size) for a in found["advantages"]
    )
    assert change_of_mvar < change_of_mean - 0.1 * step_size


def test_theorem_2_is_about_advantages_in_units_of_reward():
    """Assumption 1 holds and so does the inequality; at equal variance, or per reward, it is reversed."""
    found = study(*log_masses_of(examples.mvar_moves_less), OMEGA)
    lost, gained, deviations = (np.array(found[key]) for key in ("lost", "gained", "deviations"))
    assert found["assumption"]
    assert lost[1] < lost[0] - 0.05
    assert lost[1] / deviations[1] > lost[0] / deviations[0] + 0.02
    assert lost[1] / gained[1] > lost[0] / gained[0] + 0.2


def test_theorem_2_is_about_the_natural_gradient():
    """Assumption 1 holds; a step along the gradient itself loses more entropy with MVaR."""
    log_masses, rewards = log_masses_of(examples.vanilla_reverses)
    found = study(log_masses, rewards, OMEGA)
    assert found["assumption"] and found["lost"][1] < found["lost"][0]
    change_of_mean, change_of_mvar = (
        change_after_vanilla_step(log_masses, a, 0.01) / 0.01 for a in found["advantages"]
    )
    assert change_of_mvar < change_of_mean - 0.01


def test_a_bundle_of_alike_binary_questions_has_an_affine_psi():
    """So of two tails one is below the mean, against Assumption 1. And every advantage pays one price.

    Given the score z of four questions, z/4 of them were answered right: psi(z) has a constant slope d,
    and Cov(log pi, A) = d Cov(z, A) for any A, the entropy lost for a unit of reward is d.
    """
    logits_QxY = np.log([[0.1, 0.3, 0.4, 0.2]] * 4)
    rewards_QxY = np.array([[0.0, 1.0, 1.0, 0.0]] * 4)
    log_masses, scores = tuples(logits_QxY), tuples(rewards_QxY)
    found = study(log_masses, scores, OMEGA)

    psi = [np.array(found["psi"])[np.array(scores) == z][0] for z in range(5)]
    slope = psi[1] - psi[0]
    assert abs(slope) > 0.1
    np.testing.assert_allclose(np.diff(psi), slope, rtol=1e-10)
    np.testing.assert_allclose(found["lost"], slope * np.array(found["gained"]), rtol=1e-10)
    assert not found["assumption"]


@quick
@given(
    pass_rates=st.lists(st.integers(26, 99), min_size=4, max_size=4),
    omega=omegas,
)
def test_where_right_answers_are_the_likelier_ones_psi_rises_with_the_score(pass_rates, omega):
    """However different the questions: each is the likelier to be solved the higher the score (Efron, 1965).

    With a pass rate above 1/4 the one right answer is likelier than any of three wrong ones.
    """
    logits_QxY, rewards_QxY = one_right_answer(np.array(pass_rates) / 100, np.full(3, 1 / 3))
    log_masses, scores = tuples(logits_QxY), tuples(rewards_QxY)
    found = study(log_masses, scores, omega)
    by_score = np.argsort(scores)
    assert (np.diff(np.array(found["psi"])[by_score]) > -1e-12).all()
    lower, upper = found["terms"]
    assert lower <= 1e-12 and upper >= -1e-12
