"""From a module's logically named parameters to arrays on a mesh."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from riskpo_jax.models.attention import masked
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.sharding import LOGICAL_RULES, fit


def abstract_params(model: Decoder) -> Any:
    """The parameters as ShapeDtypeStructs, boxed with the names of their logical axes."""
    return jax.eval_shape(lambda key: _init(model, key), jax.random.key(0))


def param_shardings(abstract_boxed_params: Any, mesh: Mesh) -> Any:
    """A NamedSharding for every leaf, by LOGICAL_RULES; axes that do not divide stay whole."""
    named = nn.logical_to_mesh_sharding(
        nn.get_partition_spec(abstract_boxed_params), mesh, LOGICAL_RULES
    )
    return jax.tree.map(lambda s, x: fit(s, x.shape), named, nn.unbox(abstract_boxed_params))


def placed_shapes(model: Decoder, mesh: Mesh) -> Any:
    """The parameters as ShapeDtypeStructs with shardings: all that can be known without weights."""
    boxed = abstract_params(model)
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        nn.unbox(boxed),
        param_shardings(boxed, mesh),
    )


def init_params(
    model: Decoder, key: jax.Array, mesh: Mesh, select: Callable[[Any], Any] = lambda params: params
) -> Any:
    """Initial parameters as nested dicts of arrays, created where they live.

    select: the part of the parameters that is wanted; the rest is never drawn. The values depend
    neither on it nor on the mesh.
    """
    shardings = select(param_shardings(abstract_params(model), mesh))
    return jax.jit(lambda key: select(nn.unbox(_init(model, key))), out_shardings=shardings)(key)


def _init(model: Decoder, key: jax.Array) -> Any:
    token = jnp.zeros((1, 1), jnp.int32)
    return model.init(key, token, token, masked(jnp.ones((1, 1, 1), bool)))["params"]
