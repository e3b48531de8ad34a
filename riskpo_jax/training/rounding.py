"""Storage in bfloat16 between updates that compute in float32.

bfloat16 keeps 8 significant bits, and at a learning rate of 1e-6 an update is far below half of the last
one: rounded to nearest, it is lost every time. Rounded up or down at random, with the odds that make the
expectation exact, updates add up on average (stochastic rounding; 1502.02551, 2010.06192).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax


def stochastic_round(key: jax.Array, x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """x in `dtype`, one of its two neighbours there at random, so that the expectation is x.

    x: of type `dtype`, which changes nothing, or float32 on the way to bfloat16. Where x is a neighbour
    itself it stays, finite values stay finite, and infinities and NaN stay what they are.
    """
    if x.dtype == dtype:
        return x
    if (x.dtype, jnp.dtype(dtype)) != (jnp.float32, jnp.bfloat16):
        raise TypeError(
            f"stochastic rounding is from float32 to bfloat16, not {x.dtype} to {dtype}"
        )
    # bfloat16 is float32 without its low 16 bits: random ones, added, carry as often as those weigh.
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    noise = jax.random.bits(key, x.shape, jnp.uint16).astype(jnp.uint32)
    high = ((bits + noise) >> 16).astype(jnp.uint16)
    rounded = jax.lax.bitcast_convert_type(high, jnp.bfloat16)
    largest = jnp.copysign(jnp.finfo(dtype).max, x).astype(dtype)
    rounded = jnp.where(jnp.isinf(rounded), largest, rounded)
    return jnp.where(jnp.isfinite(x), rounded, x.astype(dtype))


def round_like(key: jax.Array, tree: Any, like: Any) -> Any:
    """Every leaf of `tree` in the type of its counterpart in `like`, each by random bits of its own."""
    leaves, structure = jax.tree.flatten(tree)
    types = [x.dtype for x in jax.tree.leaves(like)]
    rounded = [
        stochastic_round(jax.random.fold_in(key, i), x, dtype)
        for i, (x, dtype) in enumerate(zip(leaves, types, strict=True))
    ]
    return jax.tree.unflatten(structure, rounded)


def with_moment_dtype(
    inner: optax.GradientTransformation, dtype: jnp.dtype
) -> optax.GradientTransformationExtraArgs:
    """`inner`, computing in float32, with its floating-point state stored in `dtype` between updates.

    `update` takes the `key` that the stored state is rounded with.
    """

    def init(params: Any) -> optax.OptState:
        return _cast(inner.init(_cast(params, jnp.float32)), dtype)

    def update(updates, state, params=None, *, key: jax.Array, **_):
        wide = _cast(params, jnp.float32)
        updates, new_state = inner.update(updates, _cast(state, jnp.float32), wide)
        return updates, round_like(key, new_state, state)

    return optax.GradientTransformationExtraArgs(init, update)


def _cast(tree: Any, dtype: jnp.dtype) -> Any:
    """Floating-point leaves in `dtype`; counters stay."""
    return jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, tree
    )
