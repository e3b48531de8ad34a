"""Gradients of a mean over a whole update, summed a micro-batch at a time, with each prompt read once.

Every micro-batch contributes a sum and a count, the sums add, and one global count divides at the end. So
the gradient does not depend on how the update was cut, nor on the number of devices. What the responses
want of their prompts is summed as well, and goes back through the prompts once: the chain rule in two
pieces, d loss / d params = (d loss / d params at fixed states) + (d loss / d states) (d states / d params).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp

from riskpo_jax.masked import Mean
from riskpo_jax.models.prompts import PromptStates

Metrics = dict[str, Mean]
LossFn = Callable[[Any, PromptStates, Any], tuple[Mean, Metrics]]


@flax.struct.dataclass
class Sums:
    """What the micro-batches so far add up to; gradients in float32."""

    gradients: Any
    loss: Mean
    metrics: Metrics


def micro_batch_sums(
    loss_fn: LossFn, params: Any, states: PromptStates, batch: Any
) -> tuple[Sums, PromptStates]:
    """One micro-batch's sums, and what it wants of the prompt states, in float32.

    Args:
      loss_fn: (params, states, batch) -> (unreduced loss, unreduced metrics). The loss's count must not
        depend on the parameters.
    """

    def total_loss(params, states):
        loss, metrics = loss_fn(params, states, batch)
        return loss.total, (loss, metrics)

    widened = vocabulary_in_float32(params)
    (gradients, wanted), (loss, metrics) = jax.grad(total_loss, argnums=(0, 1), has_aux=True)(
        widened, states
    )
    return Sums(in_float32(gradients), loss, metrics), in_float32(wanted)


def prompt_gradients(read: Callable[[Any], PromptStates], params: Any, wanted: PromptStates) -> Any:
    """The gradients, in float32, that `wanted` of the prompt states sends to the parameters.

    read: params -> states.
    """
    states, pull_back = jax.vjp(read, vocabulary_in_float32(params))
    (gradients,) = pull_back(jax.tree.map(lambda w, s: w.astype(s.dtype), wanted, states))
    return in_float32(gradients)


def in_float32(tree: Any) -> Any:
    return jax.tree.map(lambda x: x.astype(jnp.float32), tree)


def vocabulary_in_float32(params: Any) -> Any:
    """The embedding and the head in float32, all other leaves as they are.

    Autodiff adds up their gradients token by token and block by block in the leaf's own type. In bfloat16
    a frequent token's sum soon stops growing.
    """

    def widen(path: tuple, leaf: jax.Array) -> jax.Array:
        vocabulary = jax.tree_util.keystr(path, simple=True) in ("embedding", "head")
        return leaf.astype(jnp.float32) if vocabulary else leaf

    return jax.tree_util.tree_map_with_path(widen, params)
