"""Which settings a run may change when it goes on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from riskpo_jax.config import Config, from_flat, leaves, to_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.errors import UserError


def check_resumable(old: Mapping[str, Any], new: Config) -> None:
    """Refuses to continue a run under settings that would change what it computed so far.

    Args:
      old: `to_flat` of the run's recorded configuration.

    Raises:
      UserError: naming the first setting that differs.
    """
    # A setting that is younger than the run had its default, or what the run's preset decides.
    known = {name: old[name] for name, _, _ in leaves() if name in old}
    recorded, wanted = to_flat(resolve(from_flat(known))), to_flat(new)
    for name, field, _ in leaves():
        before, now = recorded[name], wanted[name]
        if before == now:
            continue
        if name == "train.steps" and now > before and new.train.schedule == "constant":
            continue
        if field.metadata["may_change"] and name != "train.steps":
            continue
        hint = " (only more steps, with a constant schedule, can continue it)"
        raise UserError(
            f"--{name} is {now!r} but the run in this workdir was made with {before!r}"
            f"{hint if name == 'train.steps' else ''}: give the old value or another --workdir"
        )
