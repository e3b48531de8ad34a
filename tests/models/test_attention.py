"""Attention against loops over single queries, and the implementations against each other."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.models.attention import KV, after_prompt, behind, causal, dense, masked, xla


def random_kv(rng, B, K, S, D):
    return KV(*rng.standard_normal((2, B, K, S, D), np.float32))


def attend_by_loops(q, kv, mask):
    """One query at a time in float64; mask: bool[B, T, S]."""
    B, T, H, D = q.shape
    y = np.zeros(q.shape)
    for b, t, h in np.ndindex(B, T, H):
        head = h * kv.k.shape[1] // H
        keys, values = (np.float64(x[b, head, mask[b, t]]) for x in kv)
        weights = np.exp(keys @ q[b, t, h] / np.sqrt(D))
        y[b, t, h] = weights @ values / weights.sum()
    return y


def test_dense_is_softmax_attention_with_shared_keys():
    rng = np.random.default_rng(4)
    q, mask = rng.standard_normal((2, 3, 6, 4), np.float32), rng.random((2, 3, 5)) < 0.6
    mask[:, :, 0] = True
    kv = random_kv(rng, 2, 2, 5, 4)
    np.testing.assert_allclose(dense(q, kv, mask), attend_by_loops(q, kv, mask), atol=1e-5)


def test_attending_to_nothing_has_finite_values_and_gradients():
    x = jax.random.normal(jax.random.key(0), (1, 2, 2, 4))
    mask = jnp.zeros((1, 2, 2), bool)
    value, grad = jax.value_and_grad(lambda x: dense(x, KV(x, x), mask).sum())(x)
    assert np.isfinite(value) and np.isfinite(grad).all()


@pytest.mark.parametrize("block", [2, 3, 4, 5])
def test_blocks_of_queries_change_neither_values_nor_gradients(block):
    rng = np.random.default_rng(5)
    B, T, K, H, D, P = 2, 8, 2, 4, 4, 3
    q, kv = rng.standard_normal((B, T, H, D), np.float32), random_kv(rng, B, K, P + T, D)
    seen = np.concatenate([rng.random((B, P)) < 0.5, np.ones((B, T), bool)], axis=1)
    weights = rng.standard_normal(q.shape, np.float32)

    def weighted(q, kv, block):
        return (weights * xla(q, kv, jnp.asarray(seen), P, block)).sum()

    whole, parts = (jax.value_and_grad(weighted, (0, 1))(q, kv, size) for size in (T, block))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), whole, parts)
    mask = seen[:, None, :] & (np.arange(P + T)[None, :] <= np.arange(T)[:, None] + P)[None]
    y = xla(q, kv, jnp.asarray(seen), P, block)
    np.testing.assert_allclose(y, attend_by_loops(q, kv, mask), atol=1e-5)


def test_causal_sees_the_own_row_up_to_itself():
    rng = np.random.default_rng(6)
    q, kv = rng.standard_normal((2, 5, 4, 4), np.float32), random_kv(rng, 2, 2, 5, 4)
    mask = np.broadcast_to(np.tril(np.ones((5, 5), bool)), (2, 5, 5))
    np.testing.assert_allclose(causal(xla)(q, kv, None), attend_by_loops(q, kv, mask), atol=1e-5)


@pytest.mark.parametrize("shards", [1, 2])
def test_after_prompt_sees_the_own_questions_prompt(shards):
    """Against `masked` with each row's prompt copied in front of it."""
    rng = np.random.default_rng(7)
    Q, N, P, T = 4, 6, 3, 5
    prompts, kv = random_kv(rng, Q, 2, P, 4), random_kv(rng, N, 2, T, 4)
    q = rng.standard_normal((N, T, 4, 4), np.float32)
    lengths = np.array([3, 1, 2, 0])
    question = np.array([1, 0, 1, 3, 2, 3])  # over both shards
    within = question % (Q // shards)
    own = KV(*(x[question] for x in prompts))
    seen = np.arange(P)[None] < lengths[question][:, None]
    mask = np.concatenate(
        [
            np.broadcast_to(seen[:, None], (N, T, P)),
            np.broadcast_to(np.tril(np.ones((T, T), bool)), (N, T, T)),
        ],
        axis=2,
    )
    found = after_prompt(xla, shards, jnp.asarray(within), jnp.asarray(lengths))(q, kv, prompts)
    np.testing.assert_allclose(found, masked(jnp.asarray(mask))(q, kv, own), atol=1e-6)
    np.testing.assert_allclose(found, attend_by_loops(q, behind(own, kv), mask), atol=1e-5)
