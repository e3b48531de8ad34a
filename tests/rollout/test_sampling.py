"""One token a row: which may be drawn, how often, and the log-probability that is reported."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.rollout.sampling import SamplingParams, draw, keep_top_k, keep_top_p, sample_token

quick = settings(deadline=None, max_examples=30)
V = 7
logits_2xV = st.lists(st.integers(-40, 40), min_size=2 * V, max_size=2 * V).map(
    lambda x: np.array(x, np.float32).reshape(2, V) / 10
)


def softmax(logits):
    weights = np.exp(np.float64(logits) - np.max(logits, axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def keys(count, seed=0):
    """One for each row."""
    return jax.random.split(jax.random.key(seed), count)


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
    tokens, logprobs = sample_token(keys(draws), jnp.broadcast_to(logits, (draws, V)), sampling)
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
    tokens, logprobs = sample_token(keys(5), logits, SamplingParams(temperature=0.0))
    np.testing.assert_array_equal(tokens, logits.argmax(axis=1))
    np.testing.assert_allclose(logprobs, np.log(softmax(logits)).max(axis=1), atol=1e-6)


def test_a_rows_own_key_decides_whatever_stands_beside_it():
    logits, key_N = jnp.zeros((64, V)), keys(64)
    first, again, other = (
        sample_token(keys(64, seed), logits, SamplingParams())[0] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any() and len(set(first.tolist())) == V
    order = np.random.default_rng(0).permutation(64)
    few, _ = sample_token(key_N[order[:5]], logits[:5], SamplingParams())
    np.testing.assert_array_equal(few, first[order[:5]])


def test_bfloat16_logits_are_normalised_in_float32():
    logits = jax.random.normal(jax.random.key(2), (3, V)).astype(jnp.bfloat16)
    tokens, logprobs = sample_token(keys(3), logits, SamplingParams(temperature=0.7))
    expected = np.log(softmax(np.float32(logits) / np.float32(0.7)))
    assert logprobs.dtype == jnp.float32 and tokens.dtype == jnp.int32
    np.testing.assert_allclose(logprobs, expected[np.arange(3), np.asarray(tokens)], atol=1e-5)


@pytest.fixture
def draw_at(monkeypatch):
    """draw_at(uniforms[N, 2], weights[V]): the tokens that these random numbers draw."""
    monkeypatch.setattr(jax.random, "uniform", lambda key, shape: key)

    def draw_at(uniforms, weights):
        weights = np.broadcast_to(np.float32(weights), (len(uniforms), len(weights)))
        return np.asarray(draw(jnp.asarray(uniforms, jnp.float32), jnp.asarray(weights)))

    return draw_at


def grid(size):
    """All pairs of i / size."""
    return np.stack(np.meshgrid(*[np.arange(size) / size] * 2), axis=-1).reshape(-1, 2)


def test_every_token_has_exactly_its_share_of_the_uniforms(draw_at):
    """Eight tokens in two blocks of four, whose weights are eighths of the block and of the whole."""
    weights = np.array([1, 0, 2, 1, 4, 3, 0, 5])  # 4 and 12 of 16
    shares = np.array([1 / 16, 0, 2 / 16, 1 / 16, 4 / 16, 3 / 16, 0, 5 / 16])
    size = 48  # divides into 4, 12 and 16 parts
    counts = np.bincount(draw_at(grid(size), weights), minlength=8)
    np.testing.assert_array_equal(counts, size**2 * shares)


@quick
@given(vocabulary=st.integers(1, 40), seed=st.integers(0, 99))
def test_no_token_is_off_by_more_than_the_grid(vocabulary, seed):
    """Also where the last block is not full, of one token, and of tokens that may not be drawn."""
    rng, size = np.random.default_rng(seed), 64
    weights = np.float32(rng.exponential(size=vocabulary) * (rng.random(vocabulary) < 0.7))
    weights[rng.integers(vocabulary)] = 1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(jax.random, "uniform", lambda key, shape: key)
        rows = jnp.broadcast_to(weights, (size**2, vocabulary))
        tokens = draw(jnp.asarray(grid(size), jnp.float32), rows)
    counts = np.bincount(tokens, minlength=vocabulary)
    assert len(counts) == vocabulary and not counts[weights == 0].any()
    np.testing.assert_allclose(counts / size**2, weights / weights.sum(), atol=2 / size)


def test_no_uniform_draws_a_token_of_weight_zero(draw_at):
    """Not even where float32 sums of the same weights, added up in another order, differ."""
    rng, width, vocabulary = np.random.default_rng(0), 512, 70_000
    lowest, highest = 0.0, 1 - 2.0**-23
    add_up = jax.jit(partial(jnp.cumsum, axis=-1))
    wavered = 0
    for _ in range(5):
        weights = np.zeros(vocabulary, np.float32)
        weights[:width] = rng.random(width) * (rng.random(width) < 0.5)
        mass = np.asarray(add_up(weights[None, :width]))[0]
        wavers = np.flatnonzero((np.diff(mass) != 0) & (weights[1:width] == 0))
        wavered += len(wavers)
        steps = mass[np.union1d(wavers, wavers + 1)] / mass[-1]
        edges = np.array([lowest, *np.clip(steps, lowest, highest), highest])
        tokens = draw_at(np.stack([np.zeros(len(edges)), edges], axis=1), weights)
        assert (tokens < width).all() and (weights[tokens] > 0).all()
    assert wavered  # there was something to go wrong


def test_small_probabilities_are_drawn_to_the_resolution_of_the_uniforms(draw_at):
    """63 blocks that share 2^-10: a sum over all tokens in a row would lose the last of them."""
    width, tail = 64, 2.0**-10
    weights = np.full(width**2, tail / (width**2 - width), np.float32)
    weights[:width] = 0
    weights[0] = 1 - tail
    uniform = 1 - np.arange(1, 2**14 + 1) * 2.0**-23  # the upper 2^-9
    blocks = draw_at(np.stack([uniform, np.full(len(uniform), 0.5)], axis=1), weights) // width
    counts = np.bincount(blocks, minlength=width)
    np.testing.assert_allclose(counts[1:], tail * 2**23 / (width - 1), atol=2)
