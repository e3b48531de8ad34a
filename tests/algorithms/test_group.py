"""Group baselines against loops over questions and responses."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms import group

quick = settings(deadline=None, max_examples=30)
rewards_3x5 = st.lists(st.sampled_from([-1.0, 0.0, 0.1, 0.3, 1.0]), min_size=15, max_size=15).map(
    lambda x: np.array(x, np.float32).reshape(3, 5)
)


def grpo_oracle(r):
    if len(set(r)) == 1:
        return [0.0] * len(r)
    mean = sum(r) / len(r)
    std = (sum((x - mean) ** 2 for x in r) / (len(r) - 1)) ** 0.5
    return [(x - mean) / (std + 1e-6) for x in r]


def dr_grpo_oracle(r):
    return [x - sum(r) / len(r) for x in r]


def rloo_oracle(r):
    return [x - (sum(r[:n]) + sum(r[n + 1 :])) / (len(r) - 1) for n, x in enumerate(r)]


METHODS = [
    (group.grpo, grpo_oracle),
    (group.dr_grpo, dr_grpo_oracle),
    (group.rloo, rloo_oracle),
]


@pytest.mark.parametrize("method, oracle", METHODS)
@quick
@given(rewards=rewards_3x5)
def test_against_loops_and_with_leading_axes(method, oracle, rewards):
    expected = np.array([oracle([float(x) for x in row]) for row in rewards])
    np.testing.assert_allclose(method(rewards), expected, atol=1e-5)
    stacked = method(np.stack([rewards, rewards + 1]))
    np.testing.assert_allclose(stacked, np.stack([expected, expected]), atol=1e-5)


@pytest.mark.parametrize("method, _", METHODS)
@quick
@given(rewards=rewards_3x5, order=st.permutations(range(5)))
def test_permuting_the_responses_permutes_the_advantages(method, _, rewards, order):
    order = np.array(order)
    np.testing.assert_allclose(method(rewards[:, order]), method(rewards)[:, order], atol=1e-5)


@pytest.mark.parametrize("method, _", METHODS)
@pytest.mark.parametrize("value", [0.0, 0.1, 1.0, -1.0, 1e4])
@pytest.mark.parametrize("responses", [1, 3, 7])
def test_equal_rewards_and_one_response_give_exactly_zero(method, _, value, responses):
    rewards = np.full((2, responses), value, np.float32)
    np.testing.assert_array_equal(method(rewards), np.zeros_like(rewards))
