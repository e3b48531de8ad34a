"""Exact natural-gradient training raises the measure that it trains on."""

import jax
import numpy as np
import pytest

from riskpo_jax.algorithms.mvar import mvar_advantage, risk_neutral_advantage
from riskpo_jax.theory import bundle, distribution, dynamics, policy

LEVELS, OMEGA = (0.2, 0.8), 0.5


@pytest.mark.parametrize(
    "shape, measure",
    [
        (mvar_advantage, lambda z, masses: distribution.mvar(z, masses, *LEVELS, OMEGA)),
        (risk_neutral_advantage, lambda z, masses: policy.expectation(masses, z)),
    ],
)
def test_every_step_raises_the_objective(shape, measure):
    draws = np.random.default_rng(0)
    logits_QxY, rewards_QxY = draws.normal(size=(2, 3, 4))

    @jax.jit
    def path_and_objective(logits_QxY):
        path = dynamics.natural_path(logits_QxY, rewards_QxY, shape, LEVELS, OMEGA, 0.05, 40)
        distributions = jax.vmap(bundle.score_distribution, (0, None))(path, rewards_QxY)
        return path, jax.vmap(measure)(*distributions)

    path, objective = path_and_objective(logits_QxY)
    assert path.shape == (41, 3, 4)
    np.testing.assert_array_equal(path[0], logits_QxY)
    assert (np.diff(objective) > 0).all()


def test_a_step_of_the_mean_adds_the_reward():
    """E[z | y_i] is the response's own reward and a constant, which a softmax does not see."""
    draws = np.random.default_rng(1)
    logits_QxY, rewards_QxY = draws.normal(size=(2, 2, 3))
    arguments = (risk_neutral_advantage, LEVELS, OMEGA, 0.1, 1)
    path = jax.jit(lambda logits: dynamics.natural_path(logits, rewards_QxY, *arguments))(
        logits_QxY
    )
    added_QxY = np.array(path[1] - path[0])
    expected_QxY = 0.1 * rewards_QxY
    np.testing.assert_allclose(
        added_QxY - added_QxY[:, :1], expected_QxY - expected_QxY[:, :1], atol=1e-12
    )
