"""AdamW with warm-up and global-norm clipping, and an update that refuses non-finite gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax

from riskpo_jax.training.rounding import round_like


def learning_rate(
    peak: float, warmup_steps: int, schedule: str, total_updates: int
) -> optax.Schedule:
    """Linear warm-up to `peak`, then constant, or cosine to zero at `total_updates`."""
    after = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, max(total_updates - warmup_steps, 1)),
    }[schedule]()
    if not warmup_steps:
        return after
    ramp = optax.linear_schedule(peak / (warmup_steps + 1), peak, warmup_steps)
    return optax.join_schedules([ramp, after], [warmup_steps])


def adamw(
    schedule: optax.Schedule,
    *,
    b1: float,
    b2: float,
    eps: float,
    weight_decay: float,
    max_grad_norm: float,
) -> optax.GradientTransformation:
    """Global-norm clipping before AdamW; decay acts on matrices only, not on scales and biases."""

    def is_matrix(path: tuple, leaf: jax.Array) -> bool:
        return not path[-1].key.endswith(("scale", "bias"))

    return optax.chain(
        optax.clip_by_global_norm(max_grad_norm),
        optax.adamw(
            schedule,
            b1=b1,
            b2=b2,
            eps=eps,
            weight_decay=weight_decay,
            mask=lambda params: jax.tree_util.tree_map_with_path(is_matrix, params),
        ),
    )


@jax.named_scope("optimizer")
def apply_finite(
    optimizer: optax.GradientTransformation,
    gradients: Any,
    opt_state: optax.OptState,
    params: Any,
    key: jax.Array,
) -> tuple[Any, optax.OptState, dict[str, jax.Array]]:
    """One optimizer update, or none at all when the gradient's global norm is not finite.

    The sum of parameter and update is taken in float32; `key` is for rounding it, and the optimizer's
    state, to the types that they are stored in.

    Returns:
      params, opt_state, and {"grad/norm", "grad/skipped"} (skipped is 1.0 when nothing was done).
    """
    norm = optax.tree.norm(gradients)
    finite = jnp.isfinite(norm)
    state_key, params_key = jax.random.split(key)
    update = optax.with_extra_args_support(optimizer).update
    updates, new_opt_state = update(gradients, opt_state, params, key=state_key)
    moved = jax.tree.map(lambda p, u: p.astype(jnp.float32) + u, params, updates)
    new = (round_like(params_key, moved, params), new_opt_state)
    params, opt_state = jax.tree.map(lambda n, o: jnp.where(finite, n, o), new, (params, opt_state))
    return params, opt_state, {"grad/norm": norm, "grad/skipped": 1.0 - finite.astype(jnp.float32)}
