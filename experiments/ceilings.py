"""What this machine can do at best, measured with the same compiler: the denominators of MFU and MBU."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_PRODUCT_SIZE = {"cpu": 2048, "gpu": 8192, "tpu": 8192}
_COPY_BYTES = {"cpu": 2**28, "gpu": 2**31, "tpu": 2**31}


def matrix_product_flops_per_s(dtype: str, size: int | None = None, repeats: int = 7) -> float:
    """The best of `repeats` square products in `dtype`, on one device."""
    size = size or _PRODUCT_SIZE[jax.default_backend()]
    a = jax.random.normal(jax.random.key(0), (size, size)).astype(dtype)
    product = jax.jit(lambda a, b: jnp.matmul(a, b))
    return 2 * size**3 / best_seconds(lambda: product(a, a), repeats)


def copy_bytes_per_s(size: int | None = None, repeats: int = 7) -> float:
    """Bytes read and written per second, at best, when a large array is copied on one device.

    Into memory that is there already: fresh pages cost the operating system more than the copy. With
    the signs turned, because a plain copy would be optimised away.
    """
    size = size or _COPY_BYTES[jax.default_backend()]
    source = jnp.ones(size // 4, jnp.float32)
    copy = jax.jit(lambda x, out: -x, donate_argnums=1, keep_unused=True)
    target = [jnp.zeros_like(source)]

    def once() -> jax.Array:
        target[0] = copy(source, target[0])
        return target[0]

    return 2 * source.nbytes / best_seconds(once, repeats)


def best_seconds(run: Callable[[], Any], repeats: int) -> float:
    """The shortest of `repeats` calls, after one that compiles."""
    jax.block_until_ready(run())
    seconds = []
    for _ in range(repeats):
        began = time.perf_counter()
        jax.block_until_ready(run())
        seconds.append(time.perf_counter() - began)
    return min(seconds)
