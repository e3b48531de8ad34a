"""What the cache keeps of keys and values, and rows that stay on their shard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.models.attention import KV
from riskpo_jax.rollout.cache import Int8, put_cache_rows, store, store_kv, take_cache_rows

L, S, K, T, D = 2, 6, 2, 5, 8


@pytest.fixture
def kv():
    k, v = np.random.default_rng(0).standard_normal((2, L, S, K, T, D)).astype(np.float32)
    return KV(k, v)


@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e20])
def test_int8_is_off_by_half_a_step_at_most(kv, scale):
    """A step is the largest entry of a token's head divided by 127."""
    x = kv.k * np.float32(scale)
    kept = store(x, jnp.int8)
    assert kept.values.dtype == jnp.int8 and kept.scale.shape == x.shape[:-1]
    step = np.abs(x).max(axis=-1, keepdims=True) / 127
    error = np.abs(np.float64(kept.values) * np.asarray(kept.scale)[..., None] - x)
    assert (error <= 0.5001 * step).all() and error.max() > 0.3 * step.min()


def test_int8_keeps_zeros():
    kept = store(jnp.zeros((3, D)), jnp.int8)
    assert not kept.values.any() and not kept.scale.any()


def test_int8_of_bfloat16_is_measured_in_float32(kv):
    x = jnp.asarray(kv.k, jnp.bfloat16)
    kept, wanted = store(x, jnp.int8), store(x.astype(jnp.float32), jnp.int8)
    np.testing.assert_array_equal(kept.scale, wanted.scale)
    np.testing.assert_array_equal(kept.values, wanted.values)


def test_other_types_are_a_cast(kv):
    kept = store_kv(KV(*map(jnp.asarray, kv)), jnp.bfloat16)
    np.testing.assert_array_equal(kept.v, jnp.asarray(kv.v, jnp.bfloat16))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.int8])
@pytest.mark.parametrize("shards", [1, 2, 3])
def test_rows_are_taken_and_put_within_their_shard(kv, dtype, shards):
    """As a loop over shards does it; a row beyond the last is dropped."""
    whole = store_kv(KV(*map(jnp.asarray, kv)), dtype)
    size = S // shards
    rows = np.array([[size - 1, 0]] * shards)
    taken = take_cache_rows(whole, rows.reshape(-1), shards)
    absolute = (rows + size * np.arange(shards)[:, None]).reshape(-1)
    jax.tree.map(lambda x, y: np.testing.assert_array_equal(y, x[:, absolute]), whole, taken)

    targets = np.array([[0, size]] * shards)  # the second is beyond
    written = put_cache_rows(whole, targets.reshape(-1), taken, shards)

    def expected(x, new):
        x = np.array(x)
        for shard in range(shards):
            x[:, shard * size] = new[:, 2 * shard]
        return x

    jax.tree.map(
        lambda x, new, found: np.testing.assert_array_equal(found, expected(x, new)),
        whole,
        taken,
        written,
    )
    assert isinstance(written.k, Int8) == (dtype == jnp.int8)
