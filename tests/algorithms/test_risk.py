"""Risk measures against the definition of the quantile function and a numerical integral of it."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms import risk

quick = settings(deadline=None, max_examples=30)
samples_12 = st.lists(st.sampled_from([0.0, 0.25, 1.0, 2.0, -1.0, 3.5]), min_size=12, max_size=12)
levels = st.integers(20, 980).map(lambda i: i / 1000)

jit_quantile = jax.jit(risk.quantile)
jit_rvar = jax.jit(risk.rvar)
jit_mvar = jax.jit(risk.mvar)


def quantile_oracle(samples, level):
    """inf {x : F(x) >= level}, by looking at every sample."""
    for x in sorted(samples):
        if sum(s <= x for s in samples) / len(samples) >= level - 1e-9:
            return x
    raise AssertionError


def rvar_oracle(samples, lower, upper, points=20_000):
    """Midpoint rule over the quantile function."""
    us = lower + (upper - lower) * (np.arange(points) + 0.5) / points
    ordered = np.sort(samples)
    ranks = np.ceil(us * len(samples)).astype(int) - 1
    return ordered[ranks].mean()


@quick
@given(samples_12, levels)
def test_quantile_is_the_lower_inverse_of_the_distribution_function(samples, level):
    assert float(jit_quantile(np.array(samples, np.float32), level)) == quantile_oracle(
        samples, level
    )


@pytest.mark.parametrize("size", [20, 100, 340, 640, 5120])
@pytest.mark.parametrize("level", [0.1, 0.15, 0.2, 0.45, 0.7, 0.8, 0.95])
def test_quantile_at_a_level_that_falls_on_a_rank(size, level):
    samples = np.arange(1, size + 1, dtype=np.float32)
    expected = -(-round(level * 20) * size // 20)
    assert float(jit_quantile(samples, level)) == expected


def test_quantile_of_many_levels_and_of_the_ends():
    samples = np.array([[3.0, 1.0], [2.0, 4.0]], np.float32)
    found = risk.quantile(samples, np.array([0.0, 0.25, 0.26, 1.0], np.float32))
    np.testing.assert_array_equal(found, [1, 1, 2, 4])


@quick
@given(samples_12, levels, levels)
def test_rvar_is_the_integral_of_the_quantile_function(samples, one, other):
    lower, upper = min(one, other), max(one, other) + 0.01
    found = float(jit_rvar(np.array(samples, np.float32), lower, upper))
    assert found == pytest.approx(rvar_oracle(samples, lower, upper), abs=2e-3)


def test_rvar_splits_an_atom_by_mass():
    # F^-1 is 0 up to 0.5 and 1 beyond: of [0.25, 0.75] half lies on each atom.
    assert float(risk.rvar(np.array([0.0, 1.0]), 0.25, 0.75)) == pytest.approx(0.5)
    # Conditioning on q_a <= R <= q_b would count both atoms whole, and give 1/2.
    assert float(risk.rvar(np.array([0.0, 1.0]), 0.4, 0.9)) == pytest.approx(0.4 / 0.5)


@quick
@given(samples_12, levels)
def test_parts_sum_to_the_mean(samples, alpha):
    samples = np.array(samples, np.float32)
    parts = alpha * jit_rvar(samples, 0.0, alpha) + (1 - alpha) * jit_rvar(samples, alpha, 1.0)
    assert float(parts) == pytest.approx(samples.mean(), abs=1e-5)
    assert float(jit_mvar(samples, alpha, 1.0, 0.0)) == pytest.approx(samples.mean(), abs=1e-5)


@quick
@given(samples_12, st.permutations(range(12)))
def test_order_and_shape_of_the_samples_do_not_matter(samples, order):
    samples = np.array(samples, np.float32)
    expected = risk.mvar(samples, 0.2, 0.8, 0.5)
    assert float(risk.mvar(samples[np.array(order)].reshape(3, 4), 0.2, 0.8, 0.5)) == float(
        expected
    )


@quick
@given(samples_12)
def test_mvar_against_its_parts_and_its_named_measures(samples):
    samples = np.array(samples, np.float32)
    expected = 1.5 * 0.2 * rvar_oracle(samples, 0, 0.2) + 0.6 * rvar_oracle(samples, 0.2, 0.8)
    assert float(jit_mvar(samples, 0.2, 0.8, 0.5)) == pytest.approx(expected, abs=2e-3)
    assert float(risk.cvar(samples, 0.2)) == float(risk.rvar(samples, 0.0, 0.2))
    assert float(risk.var(samples, 0.2)) == float(risk.quantile(samples, 0.2))


def test_equal_samples_and_one_sample():
    for samples in (np.full(7, 0.3, np.float32), np.array([0.3], np.float32)):
        assert float(risk.rvar(samples, 0.2, 0.8)) == pytest.approx(0.3, abs=1e-6)
        assert float(risk.quantile(samples, 0.2)) == np.float32(0.3)
