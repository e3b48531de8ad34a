"""One token a row: which may be drawn, how often, and the log-probability that is reported."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.rollout.sampling import SamplingParams, keep_top_k, keep_top_p, sample_token

quick = settings(deadline=None, max_examples=30)
V = 7
logits_2xV = st.lists(st.integers(-40, 40), min_size=2 * V, max_size=2 * V).map(
    lambda x: np.array(x, np.float32).reshape(2, V) / 10
)


def softmax(logits):
    weights = np.exp(np.float64(logits) - np.max(logits, axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def assert_keeps(narrowed, logits, kept):
    np.testing.assert_array_equal(np.asarray(narrowed), np.where(kept, logits, -np.inf))


@quick
@given(logits_2xV, st.integers(0, V + 2))
def test_top_k_keeps_the_k_largest_and_their_ties(logits, k):
    threshold = np.sort(logits, axis=-1)[:, -k, None] if 0 < k < V else -np.inf
    assert_keeps(keep_top_k(logits, k), logits, logits >= threshold)


@quick
@given(logits_2xV, st.integers(1, 100).map(lambda i: i / 100))
def test_top_p_keeps_the_smallest_set_of_likeliest_tokens_with_that_mass(logits, p):
    narrowed = np.asarray(keep_top_p(logits, p))
    for row, found, probs in zip(logits, narrowed, softmax(logits), strict=True):
        least = found[np.isfinite(found)].min()
        assert_keeps(found, row, row >= least)
        assert probs[row >= least].sum() >= p - 1e-6
        assert probs[row > least].sum() < p + 1e-6  # without the last ones it would not reach p


def test_narrow_settings_leave_the_likeliest_token():
    logits = jnp.array([[0.0, 3.0, 1.0], [2.0, -1.0, 1.9]])
    for narrowed in (keep_top_k(logits, 1), keep_top_p(logits, 1e-6)):
        np.testing.assert_array_equal(jnp.isfinite(narrowed).argmax(axis=1), [1, 0])
        np.testing.assert_array_equal(jnp.isfinite(narrowed).sum(axis=1), [1, 1])


@pytest.mark.parametrize(
    "sampling",
    [
        SamplingParams(),
        SamplingParams(temperature=0.5),
        SamplingParams(temperature=2.0, top_k=3),
        SamplingParams(temperature=1.5, top_p=0.6),
        SamplingParams(temperature=0.8, top_k=4, top_p=0.9),
    ],
)
def test_draws_follow_the_tempered_and_narrowed_softmax(sampling):
    logits = np.array([0.3, -1.0, 2.0, 0.0, 1.2, -0.5, 1.0], np.float32)
    draws = 20_000
    tokens, logprobs = sample_token(
        jax.random.key(0), jnp.broadcast_to(logits, (draws, V)), sampling
    )
    tempered = logits / sampling.temperature
    reported = np.log(softmax(tempered))[np.asarray(tokens)]
    np.testing.assert_allclose(logprobs, reported, atol=1e-5)  # of the whole vocabulary

    probs = softmax(tempered)
    if sampling.top_k:
        probs = np.where(probs >= np.sort(probs)[-sampling.top_k], probs, 0)
        probs /= probs.sum()
    descending = np.sort(probs)[::-1]
    inside = np.cumsum(descending) - descending < sampling.top_p
    probs = np.where(probs >= descending[inside].min(), probs, 0)
    expected = draws * probs / probs.sum()
    counts = np.bincount(tokens, minlength=V)
    possible = expected > 0
    assert not counts[~possible].any()
    chi_square = ((counts - expected)[possible] ** 2 / expected[possible]).sum()
    freedom = possible.sum() - 1
    assert chi_square < freedom + 4 * np.sqrt(2 * freedom)


def test_greedy_takes_the_likeliest_and_reports_temperature_one():
    logits = jax.random.normal(jax.random.key(1), (5, V))
    tokens, logprobs = sample_token(jax.random.key(0), logits, SamplingParams(temperature=0.0))
    np.testing.assert_array_equal(tokens, logits.argmax(axis=1))
    np.testing.assert_allclose(logprobs, np.log(softmax(logits)).max(axis=1), atol=1e-6)


def test_rows_draw_independently_and_keys_decide():
    logits = jnp.zeros((64, V))
    first, again, other = (
        sample_token(jax.random.key(seed), logits, SamplingParams())[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and len(set(first.tolist())) == V


def test_bfloat16_logits_are_normalised_in_float32():
    logits = jax.random.normal(jax.random.key(2), (3, V)).astype(jnp.bfloat16)
    tokens, logprobs = sample_token(jax.random.key(0), logits, SamplingParams(temperature=0.7))
    expected = np.log(softmax(np.float32(logits) / np.float32(0.7)))
    assert logprobs.dtype == jnp.float32 and tokens.dtype == jnp.int32
    np.testing.assert_allclose(logprobs, expected[np.arange(3), np.asarray(tokens)], atol=1e-5)
