"""The paper's credit over all permutations: its mean, and what a question that nobody solves gets."""

import jax
import numpy as np
import pytest

from riskpo_jax.algorithms.bundles import expected_credit
from riskpo_jax.algorithms.mvar import mvar_advantage
from riskpo_jax.theory import credit

ALL_WRONG = [0.0, 0.0, 0.0]
SOLVED_ONCE = [0.0, 1.0, 0.0]
SOLVED_TWICE = [1.0, 0.0, 1.0]
ALL_RIGHT = [1.0, 1.0, 1.0]


def mvar(scores):
    return mvar_advantage(scores, 0.8, 2.7, 0.5)


credit_over_pairings = jax.jit(credit.credit_over_pairings, static_argnums=1)


def test_every_pairing_is_there_once():
    pairings = np.array(credit.all_pairings(2, 3))
    assert pairings.shape == (36, 2, 3)
    assert len({pairing.tobytes() for pairing in pairings}) == 36
    assert (np.sort(pairings, axis=-1) == np.arange(3)).all()


def test_the_mean_over_pairings_is_the_expected_credit():
    rewards = np.array([SOLVED_ONCE, SOLVED_TWICE, ALL_WRONG])
    found = credit_over_pairings(rewards, mvar).mean(axis=0)
    expected = jax.jit(expected_credit, static_argnums=(1, 2))(rewards[None], mvar, 2)[0]
    np.testing.assert_allclose(found, expected, atol=1e-12)


@pytest.mark.parametrize("same", [ALL_WRONG, ALL_RIGHT])
@pytest.mark.parametrize(
    "strangers",
    [
        [SOLVED_ONCE, SOLVED_TWICE],
        [SOLVED_ONCE, ALL_WRONG],
        [SOLVED_TWICE, ALL_RIGHT],
    ],
)
def test_a_question_of_equal_rewards_has_no_expected_advantage(same, strangers):
    """One value for all its responses, which is the bundle's own mean; single pairings are noise."""
    credits = np.array(credit_over_pairings(np.array([same, *strangers]), mvar))
    centred = credits - credits.mean(axis=2, keepdims=True)
    np.testing.assert_allclose(centred[:, 0].mean(axis=0), 0, atol=1e-14)
    assert centred[:, 0].std(axis=0).min() > 0.1
    # A question with both kinds of responses does get a signal.
    assert np.abs(centred[:, 1].mean(axis=0)).max() > 0.05
