"""The tracker: its mean recursion in closed form, and `algorithms/quantiles.py` against the formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.algorithms import quantiles
from riskpo_jax.theory import tracking
from riskpo_jax.types import TrackerState

LEVEL = 0.2


def uniform_cdf(value):
    """Of the uniform distribution on [0, 1]: density 1, and the quantile at p is p."""
    return jnp.clip(value, 0, 1)


def wide_cdf(value):
    """Of the uniform distribution on [-50, 50]: density 0.01, affine wherever a test goes."""
    return jnp.clip(0.5 + value / 100, 0, 1)


def simulate(step_sizes_K, batch_size, trackers):
    """[K, trackers]: values that `quantiles.update` tracks of uniform samples, each from its quantile."""

    def one(values, step):
        key, step_size = step
        samples = jax.random.uniform(key, (trackers, batch_size))

        def update(value, samples):
            state = TrackerState(values=value[None], step=jnp.int32(1))
            return quantiles.update(state, samples, (LEVEL,), step_size).values[0]

        values = jax.vmap(update)(values, samples)
        return values, values

    keys = jax.random.split(jax.random.key(0), len(step_sizes_K))
    start = jnp.full(trackers, LEVEL)
    step_sizes = jnp.asarray(step_sizes_K)
    return np.array(jax.jit(lambda: jax.lax.scan(one, start, (keys, step_sizes))[1])())


def test_the_mean_error_shrinks_geometrically():
    steps = np.full(30, 0.1)
    found = tracking.mean_field(uniform_cdf, LEVEL, 0.9, steps, np.zeros(30))
    np.testing.assert_allclose(found, 0.2 + 0.7 * 0.9 ** np.arange(1, 31), rtol=1e-12)


def test_polynomial_steps_reach_the_quantile():
    steps = np.array([quantiles.polynomial_step_size(k, 0.5, 10.0, 0.75) for k in range(2000)])
    found = tracking.mean_field(uniform_cdf, LEVEL, 0.9, steps, np.zeros(2000))
    assert abs(found[-1] - LEVEL) < 1e-6


def test_an_atom_that_holds_the_level_is_reached():
    """Half of the mass on 1, from level 0.1 on: the tracker steps around it, less and less."""
    steps = np.array([quantiles.polynomial_step_size(k, 0.5, 10.0, 1.0) for k in range(2000)])

    def below(value):  # P(z < q), as the tracker counts
        return jnp.where(value > 1, 0.6, 0.1)

    found = np.array(tracking.mean_field(below, LEVEL, 3.0, steps, np.zeros(2000)))
    assert abs(found[-1] - 1) < steps[-1]
    assert abs(found[1000] - 1) < steps[1000]


@pytest.mark.parametrize("drift", [0.002, -0.004])
def test_the_lag_behind_a_moving_distribution(drift):
    locations = drift * np.arange(401)
    found = tracking.mean_field(uniform_cdf, 0.5, 0.5, np.full(400, 0.1), locations[:-1])
    lag = 0.5 + locations[1:] - np.array(found)
    np.testing.assert_allclose(lag[-1], tracking.lag(drift, 0.1, 1.0), rtol=1e-10)


@pytest.mark.parametrize(
    "power_of_policy, growth_of_lag", [(1.0, 10**-0.4), (0.6, 1.0), (0.4, 10**0.2)]
)
def test_two_time_scales(power_of_policy, growth_of_lag):
    """eta_k / gamma_k -> 0 makes the lag vanish; equal powers leave it; the reverse lets it grow.

    gamma_k = k^-0.6 against a distribution that moves by eta_k = 0.01 k^-power, and the lag at ten times
    the step.
    """
    k = np.arange(1.0, 20001)
    gamma, eta = 40 * k**-0.6, 0.01 * k**-power_of_policy
    locations = np.concatenate([[0.0], np.cumsum(eta)])
    found = tracking.mean_field(wide_cdf, 0.5, 0.0, gamma, locations[:-1])
    lag = locations[1:] - np.array(found)
    np.testing.assert_allclose(lag[19999] / lag[1999], growth_of_lag, rtol=0.05)
    np.testing.assert_allclose(lag[-1], tracking.lag(eta[-1], gamma[-1], 0.01), rtol=0.05)


def test_how_much_samples_shake_the_tracker():
    """Within 10% of the variance, from 400 trackers at 20 times far apart."""
    values = simulate(np.full(600, 0.1), batch_size=4, trackers=400)[200::20]
    expected = tracking.stationary_variance(0.1, LEVEL, 1.0, 4)
    assert values.mean() == pytest.approx(LEVEL, abs=0.005)
    assert values.var() == pytest.approx(expected, rel=0.1)


def test_the_error_falls_with_the_square_root_of_the_step_size():
    """gamma_k ~ k^-0.75, so at 16 times the step the root mean square error is 16^-0.375 = 0.35 of it."""
    steps = [quantiles.polynomial_step_size(k, 1.0, 5.0, 0.75) for k in range(1600)]
    values = simulate(np.array(steps), batch_size=8, trackers=200)
    error = np.sqrt(((values - LEVEL) ** 2).mean(axis=1))
    ratio = error[1500:].mean() / error[94:100].mean()
    assert 0.28 < ratio < 0.43
