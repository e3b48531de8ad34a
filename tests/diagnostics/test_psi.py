"""psi against a plain loop, and Assumption 1 on distributions where the answer is known."""

import numpy as np
import pytest

from riskpo_jax.diagnostics.psi import (
    HOLDS,
    UNDECIDED,
    UNTESTED,
    VIOLATED,
    atoms_of,
    compare,
    estimate_psi,
    verdict,
)
from riskpo_jax.diagnostics.resampling import bootstrap_weights


def drawn(psi_of_score, units=200, samples=6, noise=0.3, seed=0):
    """Scores 0..5 and log-probabilities around psi_of_score."""
    rng = np.random.default_rng(seed)
    scores = rng.binomial(5, 0.5, (units, samples)).astype(float)
    values = np.array([psi_of_score(z) for z in range(6)])[scores.astype(int)]
    return scores, values + rng.normal(0, noise, scores.shape)


def judged(psi_of_score, **settings):
    scores, logprobs = drawn(psi_of_score, **settings)
    psi = estimate_psi(scores, logprobs, bootstrap_weights(len(scores), 500))
    return compare(psi, 2.0, 3.0)  # of five fair coins at levels 0.2 and 0.8


def test_psi_is_the_mean_by_score():
    scores, logprobs = drawn(lambda z: -z, units=50)
    psi = estimate_psi(scores, logprobs, bootstrap_weights(50, 20, seed=3))
    assert psi.mean == pytest.approx(logprobs.mean())
    for a, atom in enumerate(psi.atoms_A):
        assert psi.means_A[a] == pytest.approx(logprobs[scores == atom].mean())
        assert psi.shares_A[a] == pytest.approx((scores == atom).mean())
        assert psi.units_A[a] == (scores == atom).any(axis=1).sum()
    # A bootstrap draw is psi of the units drawn.
    counts = np.round(bootstrap_weights(50, 20, seed=3)[0] * 50).astype(int)
    again = np.repeat(np.arange(50), counts)
    expected = logprobs[again][scores[again] == 2].mean()
    assert psi.draws_DxA[0, 2] == pytest.approx(expected)


def test_many_values_are_binned_by_mass():
    scores = np.random.default_rng(0).random((100, 30))
    atoms, which = atoms_of(scores, most=10)
    assert len(atoms) == 10 and (np.diff(atoms) > 0).all()
    np.testing.assert_allclose(np.bincount(which.reshape(-1)) / scores.size, 0.1, atol=0.002)
    for a in range(10):
        assert atoms[a] == pytest.approx(scores[which == a].mean())


def test_bins_lie_on_one_side_of_a_quantile():
    """Or their mean would decide whether the whole bin is of a tail."""
    scores = np.random.default_rng(0).random((100, 30)).astype(np.float32)
    for cuts in [(0.2222, 0.7777), (scores[3, 4], scores[7, 8]), (0.5, 0.5), (-1.0, 2.0)]:
        atoms, which = atoms_of(scores, cuts, most=10)
        assert (np.diff(atoms) > 0).all() and 10 <= len(atoms) <= 14
        for cut in cuts:
            sides = np.sign(np.where(np.abs(scores - cut) < 1e-6, 0, scores - cut))
            assert all(len(set(sides[which == a])) == 1 for a in range(len(atoms)))
            np.testing.assert_array_equal(
                np.sign(np.round(atoms[which] - cut, 6)), sides
            )  # what `compare` sees


def test_a_heavy_value_keeps_its_atom():
    scores = np.concatenate([np.zeros(900), np.linspace(0.1, 1, 100)])
    atoms, which = atoms_of(scores, most=5)
    assert atoms[0] == 0 and (which[:900] == 0).all() and (which[900:] > 0).all()


def test_a_policy_sure_of_both_tails_satisfies_it():
    found = judged(lambda z: (z - 2.5) ** 2, noise=0.05)
    assert verdict(found) == HOLDS
    assert {(c.kind, c.at) for c in found} == {
        *(("falling", 0), ("falling", 1), ("rising", 5), ("rising", 4)),
        *(("tail", 0), ("tail", 1), ("tail", 4), ("tail", 5)),
    }


@pytest.mark.parametrize(
    ("psi_of_score", "broken"),
    [
        (lambda z: z, {"falling", "tail"}),  # sure of what is right only
        (lambda z: -z, {"rising", "tail"}),
        (lambda z: -abs(z - 2.5), {"falling", "rising", "tail"}),
        (lambda z: abs(z - 2.5) + 9 * (z == 1), {"falling", "tail"}),
        (lambda z: 9 + abs(z - 2.5) - 2 * (z == 0), {"falling", "tail"}),
    ],
)
def test_what_breaks_it_is_named(psi_of_score, broken):
    found = judged(psi_of_score, units=2000, noise=0.05)
    assert {c.kind for c in found if c.verdict == VIOLATED} == broken and verdict(found) == VIOLATED


def test_noise_alone_hardly_ever_violates_it():
    """A flat psi lies on the border; the m comparisons share one error of 5%, two-sided."""
    verdicts = [verdict(judged(lambda z: 0.0, units=60, seed=seed)) for seed in range(60)]
    assert verdicts.count(VIOLATED) <= 6 and UNDECIDED in verdicts


def test_one_value_says_nothing():
    scores = np.ones((20, 4))
    psi = estimate_psi(scores, np.random.default_rng(0).normal(size=(20, 4)), np.eye(20))
    assert compare(psi, 1.0, 1.0) == [] and verdict([]) == UNTESTED


def test_a_single_binary_reward_has_no_tails():
    """Where the quantiles are its two values MVaR is the mean, and there is nothing to assume."""
    rewards = np.random.default_rng(0).binomial(1, 0.4, (300, 8)).astype(float)
    psi = estimate_psi(rewards, rewards + 0.1, bootstrap_weights(300, 300))
    assert verdict(compare(psi, 0.0, 1.0)) == UNTESTED
    assert verdict(compare(psi, 0.0, 0.0)) == HOLDS  # a rare success, more likely than a failure
    assert verdict(compare(psi, 1.0, 1.0)) == VIOLATED  # a rare failure, less likely


def test_what_few_units_hold_is_not_compared():
    scores, logprobs = drawn(lambda z: z, units=200)
    scores[:, :] = np.minimum(scores, 4)
    scores[:9, 0] = 5
    psi = estimate_psi(scores, logprobs, bootstrap_weights(200, 100))
    assert 5 not in {c.at for c in compare(psi, 1.0, 4.0)}
