"""Which of a policy's parameters train.

With adapters (`--lora.rank`) the base is frozen and the adapters train; without, nothing is frozen and
the model trains. The policy is `lora.join(frozen, trained)` in either case.
"""

from __future__ import annotations

from typing import Any

from jax.sharding import Mesh

from riskpo_jax.models import lora
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.partitioning import placed_shapes


def frozen_and_trained(model: Decoder, params: Any) -> tuple[Any, Any]:
    """A whole tree of the model's parameters in its two parts; the first is {} without adapters."""
    base, adapters = lora.split(params)
    return (base, adapters) if model.lora else (adapters, base)


def trained_shapes(model: Decoder, mesh: Mesh) -> Any:
    """ShapeDtypeStructs of what trains, with shardings."""
    return frozen_and_trained(model, placed_shapes(model, mesh))[1]
