"""The clipped loss: its oracle, its gradient at ratio 1, and exactness under micro-batching."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.algorithms import losses
from riskpo_jax.masked import length_mask

quick = settings(deadline=None, max_examples=30)


def hundredths(low, high):
    return st.integers(low, high).map(lambda i: i / 100)


ratios = st.lists(hundredths(10, 300), min_size=6, max_size=6).map(
    lambda x: np.array(x, np.float32).reshape(2, 3)
)
advantages_2 = st.lists(hundredths(-200, 200), min_size=2, max_size=2).map(
    lambda x: np.array(x, np.float32)
)
AGGREGATIONS = [
    losses.token_mean,
    losses.sequence_mean,
    lambda values, mask: losses.constant_length_mean(values, mask, 7),
]


@quick
@given(ratios, advantages_2)
def test_surrogate_and_clip_flag_against_loops(ratio, advantages):
    low, high = 0.2, 0.28
    surrogate = losses.clipped_surrogate(ratio, advantages, low, high)
    flags = losses.clipped(ratio, advantages, low, high)
    for n in range(2):
        for t in range(3):
            r, a = float(ratio[n, t]), float(advantages[n])
            bounded = min(max(r, 1 - low), 1 + high)
            assert float(surrogate[n, t]) == pytest.approx(min(r * a, bounded * a), abs=1e-5)
            if abs(r * a - bounded * a) > 1e-5:
                assert bool(flags[n, t]) == (bounded * a < r * a)
            if bounded == r:
                assert not flags[n, t]


@quick
@given(ratios, advantages_2)
def test_a_clipped_token_has_no_gradient_and_the_others_have_their_advantage(ratio, advantages):
    gradient = jax.grad(lambda r: losses.clipped_surrogate(r, advantages, 0.2, 0.2).sum())(ratio)
    flags = losses.clipped(ratio, advantages, 0.2, 0.2)
    on_a_kink = np.isclose(ratio, 0.8, atol=1e-5) | np.isclose(ratio, 1.2, atol=1e-5)
    expected = jnp.where(flags, 0, advantages[:, None])
    np.testing.assert_allclose(
        np.where(on_a_kink, 0, gradient), np.where(on_a_kink, 0, expected), atol=1e-6
    )


def test_dapo_clips_the_two_sides_apart():
    ratio = jnp.array([[0.7, 1.25, 1.35]])
    up, down = jnp.array([1.0]), jnp.array([-1.0])
    surrogate, clipped = losses.clipped_surrogate, losses.clipped
    np.testing.assert_allclose(surrogate(ratio, up, 0.2, 0.28), [[0.7, 1.25, 1.28]])
    np.testing.assert_allclose(surrogate(ratio, down, 0.2, 0.28), [[-0.8, -1.25, -1.35]])
    np.testing.assert_array_equal(clipped(ratio, up, 0.2, 0.28), [[False, False, True]])
    np.testing.assert_array_equal(clipped(ratio, down, 0.2, 0.28), [[True, False, False]])
    np.testing.assert_array_equal(clipped(ratio, up, 0.2, 0.2), [[False, True, True]])


def test_gradient_at_ratio_one_is_the_policy_gradient():
    logprobs = jnp.log(jnp.array([[0.2, 0.5, 0.9], [0.1, 0.3, 0.4]]))
    advantages = jnp.array([1.5, -0.7])
    mask = length_mask(jnp.array([2, 3]), 3)

    def objective(logprobs, behaviour):
        ratio = losses.token_ratio(logprobs, behaviour, mask)
        return losses.token_mean(
            losses.clipped_surrogate(ratio, advantages, 0.2, 0.2), mask
        ).value()

    expected = np.where(mask, np.array(advantages)[:, None], 0) / 5
    np.testing.assert_allclose(jax.grad(objective)(logprobs, logprobs), expected, atol=1e-6)


def gspo_oracle(logprobs, behaviour, lengths, advantages, low, high):
    """arXiv 2507.18071, equations 5 and 7, a sequence at a time; their minus: to minimise."""
    terms = []
    for n, length in enumerate(lengths):
        log_ratio = sum(logprobs[n, t] - behaviour[n, t] for t in range(length))
        s = np.exp(log_ratio / length)
        terms.append(min(s * advantages[n], min(max(s, 1 - low), 1 + high) * advantages[n]))
    return -sum(terms) / len(terms)


def gspo_loss(logprobs, behaviour, lengths, advantages, low=0.02, high=0.03):
    mask = length_mask(jnp.asarray(lengths), logprobs.shape[1])
    ratio = losses.sequence_ratio(logprobs, behaviour, mask)
    surrogate = losses.clipped_surrogate(ratio, advantages, low, high)
    return -losses.sequence_mean(surrogate, mask).value()


def grpo_loss(logprobs, behaviour, lengths, advantages):
    mask = length_mask(jnp.asarray(lengths), logprobs.shape[1])
    ratio = losses.token_ratio(logprobs, behaviour, mask)
    surrogate = losses.clipped_surrogate(ratio, advantages, 0.2, 0.2)
    return -losses.sequence_mean(surrogate, mask).value()


def sequences(seed, spread):
    """(logprobs, behaviour, lengths, advantages) of four sequences of at most five tokens."""
    rng = np.random.default_rng(seed)
    behaviour = -rng.exponential(size=(4, 5))
    logprobs = behaviour + spread * rng.normal(size=(4, 5))
    arrays = (logprobs, behaviour, rng.integers(1, 6, 4), rng.normal(size=4))
    return tuple(jnp.asarray(x, jnp.int32 if x.dtype == int else jnp.float32) for x in arrays)


@quick
@given(st.integers(0, 2**20), st.sampled_from([0.01, 0.05, 0.5]))
def test_gspo_against_its_equations_and_their_numerical_gradient(seed, spread):
    logprobs, *rest = sequences(seed, spread)
    x, behaviour, lengths, advantages = (np.asarray(v, np.float64) for v in (logprobs, *rest))
    lengths = lengths.astype(int)

    def oracle(x):
        return gspo_oracle(x, behaviour, lengths, advantages, 0.02, 0.03)

    value, gradient = jax.value_and_grad(gspo_loss)(logprobs, *rest)
    assert float(value) == pytest.approx(oracle(x), abs=1e-5)
    for n, t in np.ndindex(x.shape):
        step = np.zeros_like(x)
        step[n, t] = 1e-6
        before, middle, after = oracle(x - step), oracle(x), oracle(x + step)
        if abs(before + after - 2 * middle) < 1e-9:  # not across a clip's edge
            assert float(gradient[n, t]) == pytest.approx((after - before) / 2e-6, abs=1e-4)


@quick
@given(st.integers(0, 2**20))
def test_on_policy_gspo_is_grpo_and_off_policy_it_is_not(seed):
    logprobs, _, *rest = sequences(seed, 0.0)
    found, expected = (jax.grad(loss)(logprobs, logprobs, *rest) for loss in (gspo_loss, grpo_loss))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    lengths = jnp.full(4, 5)
    ascending = logprobs + jnp.linspace(-0.01, 0.02, 5)[None]
    found, expected = (
        jax.grad(loss)(ascending, logprobs, lengths, rest[1]) for loss in (gspo_loss, grpo_loss)
    )
    assert float(jnp.abs(found - expected).max()) > 1e-3 * float(jnp.abs(expected).max())


RATIOS = [losses.token_ratio, losses.sequence_ratio]


@pytest.mark.parametrize("ratio", RATIOS)
@quick
@given(st.integers(0, 2**20), st.floats(-50, 50) | st.sampled_from([np.nan, np.inf]))
def test_ratios_do_not_see_the_padding(ratio, seed, garbage):
    logprobs, behaviour, lengths, _ = sequences(seed, 0.5)
    lengths = lengths.at[0].set(0)  # a row that only fills the shape
    mask = length_mask(lengths, 5)
    plain = ratio(logprobs, behaviour, mask)
    np.testing.assert_array_equal(ratio(jnp.where(mask, logprobs, garbage), behaviour, mask), plain)
    np.testing.assert_array_equal(plain[0], 1)
    wider, wider_behaviour = (
        jnp.pad(x, ((0, 0), (0, 3)), constant_values=garbage) for x in (logprobs, behaviour)
    )
    found = ratio(wider, wider_behaviour, length_mask(lengths, 8))[:, :5]
    np.testing.assert_allclose(found, plain, rtol=1e-6)


def test_a_sequence_is_clipped_as_a_whole_where_its_tokens_disagree():
    """Ratios 2 and 1/2 have the geometric mean 1: nothing to clip, though each token is far out."""
    logprobs, mask = jnp.log(jnp.array([[1.0, 0.25]])), jnp.ones((1, 2), bool)
    ratio = losses.sequence_ratio(logprobs, jnp.log(jnp.array([[0.5, 0.5]])), mask)
    np.testing.assert_allclose(ratio, [[1, 1]], rtol=1e-6)
    assert not losses.clipped(ratio, jnp.array([1.0]), 3e-4, 4e-4).any()


@quick
@given(
    st.lists(hundredths(-300, 0), min_size=4, max_size=4),
    st.lists(hundredths(-300, 0), min_size=4, max_size=4),
)
def test_k3_is_its_formula_and_not_negative(logprobs, reference):
    p, q = (np.array(x, np.float32).reshape(2, 2) for x in (logprobs, reference))
    difference = q.astype(np.float64) - p
    found = losses.kl_k3(p, q)
    np.testing.assert_allclose(found, np.exp(difference) - difference - 1, atol=1e-4)
    assert (np.array(found) >= 0).all()


def test_k3_averages_to_the_divergence():
    p, q = np.array([0.5, 0.3, 0.2]), np.array([0.2, 0.2, 0.6])
    found = p @ np.array(losses.kl_k3(np.log(p)[None], np.log(q)[None]))[0]
    assert found == pytest.approx((p * np.log(p / q)).sum(), abs=1e-6)


def token_oracle(values, lengths):
    kept = [values[n, t] for n in range(len(lengths)) for t in range(lengths[n])]
    return sum(kept) / max(len(kept), 1)


def sequence_oracle(values, lengths):
    rows = [values[n, : lengths[n]].mean() for n in range(len(lengths)) if lengths[n]]
    return sum(rows) / max(len(rows), 1)


def constant_oracle(values, lengths):
    rows = [values[n, : lengths[n]].sum() / 7 for n in range(len(lengths)) if lengths[n]]
    return sum(rows) / max(len(rows), 1)


@pytest.mark.parametrize(
    "aggregate, oracle",
    list(zip(AGGREGATIONS, [token_oracle, sequence_oracle, constant_oracle], strict=True)),
)
@quick
@given(
    lengths=st.lists(st.integers(0, 5), min_size=6, max_size=6),
    seed=st.integers(0, 2**20),
)
def test_averages_against_loops_and_under_micro_batching(aggregate, oracle, lengths, seed):
    values = np.random.default_rng(seed).normal(size=(6, 5)).astype(np.float32)
    mask = np.arange(5)[None, :] < np.array(lengths)[:, None]
    values = np.where(mask, values, np.nan)  # Padding holds anything.
    whole = aggregate(values, mask)
    assert float(whole.value()) == pytest.approx(oracle(values, lengths), abs=1e-5)
    parts = aggregate(values[:1], mask[:1]) + aggregate(values[1:3], mask[1:3])
    parts = parts + aggregate(values[3:], mask[3:])
    assert float(parts.value()) == pytest.approx(float(whole.value()), abs=1e-5)
    assert float(parts.count) == float(whole.count)


@pytest.mark.parametrize("aggregate", AGGREGATIONS)
def test_gradients_add_up_over_micro_batches(aggregate):
    values = jnp.arange(20.0).reshape(4, 5) / 7
    mask = length_mask(jnp.array([1, 5, 2, 4]), 5)
    count = aggregate(values, mask).count

    def share(values, mask):
        return aggregate(values**2, mask).total / count

    whole = jax.grad(share)(values, mask)
    halves = [jax.grad(share)(values[rows], mask[rows]) for rows in (slice(0, 1), slice(1, 4))]
    np.testing.assert_allclose(whole, np.concatenate(halves), atol=1e-6)
    assert (np.array(whole)[~np.array(mask)] == 0).all()
