"""Gradients of a mean over a whole mini-batch, computed a micro-batch at a time.

Every micro-batch contributes a sum and a count, the sums add, and one global count divides at the end. So
the gradient does not depend on how the mini-batch was cut, nor on the number of devices.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from riskpo_jax.masked import Mean

Metrics = dict[str, Mean]
LossFn = Callable[[Any, Any], tuple[Mean, Metrics]]


def accumulate_gradients(
    loss_fn: LossFn, params: Any, micro_batches: Any
) -> tuple[Any, Mean, Metrics]:
    """The exact gradient of `loss_fn`'s mean over all micro-batches.

    Args:
      loss_fn: (params, micro_batch) -> (unreduced loss, unreduced metrics). The loss's count must not
        depend on the parameters.
      micro_batches: pytree with leading axes [micro-batches, rows, ...].

    Returns:
      gradients in float32, the loss and the metrics, both still unreduced.
    """

    def total_loss(params, micro_batch):
        loss, metrics = loss_fn(params, micro_batch)
        return loss.total, (loss, metrics)

    def sums(micro_batch):
        gradients, (loss, metrics) = jax.grad(total_loss, has_aux=True)(widened, micro_batch)
        return jax.tree.map(lambda g: g.astype(jnp.float32), gradients), loss, metrics

    def add(so_far, micro_batch):
        return jax.tree.map(jnp.add, so_far, sums(micro_batch)), None

    widened = vocabulary_in_float32(params)
    first = jax.tree.map(lambda x: x[0], micro_batches)
    zeros = jax.tree.map(jnp.zeros_like, jax.eval_shape(sums, first))
    (gradients, loss, metrics), _ = jax.lax.scan(add, zeros, micro_batches)
    return jax.tree.map(lambda g: g / jnp.maximum(loss.count, 1), gradients), loss, metrics


def vocabulary_in_float32(params: Any) -> Any:
    """The embedding and the head in float32, all other leaves as they are.

    Autodiff adds up their gradients token by token and block by block in the leaf's own type. In bfloat16
    a frequent token's sum soon stops growing.
    """

    def widen(path: tuple, leaf: jax.Array) -> jax.Array:
        vocabulary = jax.tree_util.keystr(path, simple=True) in ("embedding", "head")
        return leaf.astype(jnp.float32) if vocabulary else leaf

    return jax.tree_util.tree_map_with_path(widen, params)


def split_rows(batch: Any, parts: int) -> Any:
    """Pytree of [N, ...] -> [parts, N / parts, ...]; part i takes the rows i, i + parts, ...

    Strided, so that each part has an equal share of every device's rows.
    """
    return jax.tree.map(
        lambda x: jnp.swapaxes(x.reshape(x.shape[0] // parts, parts, *x.shape[1:]), 0, 1), batch
    )
