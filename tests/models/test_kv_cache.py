"""The cache holds what was written where it was written."""

import jax.numpy as jnp
import numpy as np

from riskpo_jax.models import kv_cache


def test_write_then_read_one_layer(make_config):
    cache = kv_cache.init_cache(make_config(num_layers=3), 2, 6, jnp.bfloat16)
    assert cache.k.shape == (3, 2, 6, 2, 8) and cache.k.dtype == jnp.bfloat16
    cache = cache.replace(index=jnp.int32(3))
    k, v = jnp.full((2, 2, 2, 8), 1.5), jnp.full((2, 2, 2, 8), -2.0)
    cache = kv_cache.write(cache, jnp.int32(1), k, v)
    assert int(cache.index) == 3  # moves once for all layers, in the decoder
    for layer in range(3):
        read_k, read_v = (np.asarray(x, np.float32) for x in kv_cache.read(cache, layer))
        expected = np.zeros((2, 6, 2, 8))
        expected[:, 3:5] = layer == 1
        np.testing.assert_array_equal(read_k, 1.5 * expected)
        np.testing.assert_array_equal(read_v, -2.0 * expected)
