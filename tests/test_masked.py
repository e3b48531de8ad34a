"""Masked sums ignore what is masked, NaN included, and unreduced means add up exactly."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.masked import Mean, length_mask, masked_mean, masked_sum


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(0, 5), min_size=3, max_size=3))
def test_length_mask_holds_the_first_slots_of_each_row(lengths):
    expected = [[slot < length for slot in range(4)] for length in lengths]
    np.testing.assert_array_equal(length_mask(jnp.array(lengths), 4), expected)


@settings(deadline=None, max_examples=25)
@given(
    st.lists(st.integers(-50, 50), min_size=6, max_size=6),
    st.lists(st.booleans(), min_size=6, max_size=6),
    st.integers(0, 6),
)
def test_means_of_parts_add_up_to_the_mean_of_the_whole(values, kept, cut):
    values, kept = np.array(values, np.float32), np.array(kept)
    expected = values[kept].mean() if kept.any() else 0.0
    whole = masked_mean(values, kept)
    parts = masked_mean(values[:cut], kept[:cut]) + masked_mean(values[cut:], kept[cut:])
    assert float(whole.count) == float(parts.count) == kept.sum()
    assert float(whole.value()) == pytest.approx(expected, abs=1e-5)
    assert float(parts.value()) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_what_is_masked_reaches_neither_value_nor_gradient(poison):
    values, mask = jnp.array([1.0, poison, 3.0]), jnp.array([True, False, True])
    value, gradient = jax.value_and_grad(lambda x: masked_sum(x, mask))(values)
    assert float(value) == 4.0
    np.testing.assert_array_equal(gradient, [1, 0, 1])


def test_a_mean_of_nothing_is_zero():
    assert float(masked_mean(jnp.ones(3), jnp.zeros(3, bool)).value()) == 0.0
    assert float(Mean(jnp.float32(0), jnp.float32(0)).value()) == 0.0
