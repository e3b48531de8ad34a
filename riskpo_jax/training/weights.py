"""The policy's parameters in two parts: those that train, and those that stay as they are.

With adapters (`--lora.rank`) the base is frozen and the adapters train; without, nothing is frozen and
the model trains. The policy is `lora.join(frozen, trained)` in either case.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax.sharding import Mesh

from riskpo_jax.config import Config
from riskpo_jax.models import lora, peft
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.hf import load_params
from riskpo_jax.models.partitioning import init_params, placed_shapes
from riskpo_jax.training.setup import Policy
from riskpo_jax.training.state import Purpose, purpose_key
from riskpo_jax.training.trainable import trained_shapes


def merged(model: Decoder, frozen: Any, trained: Any) -> Any:
    """The policy as parameters of a plain model, adapters added into the matrices that they adapt.

    The sum takes the place of `frozen`, whose arrays are gone afterwards.
    """
    if model.lora is None:
        return trained
    shardings = jax.tree.map(lambda x: x.sharding, frozen)
    merge = jax.jit(partial(lora.merge, lora=model.lora), out_shardings=shardings, donate_argnums=0)
    return merge(frozen, trained)


def load_frozen(config: Config, policy: Policy, mesh: Mesh) -> Any:
    return load_base(config, policy, mesh) if policy.model.lora else {}


def load_trained(config: Config, policy: Policy, mesh: Mesh) -> Any:
    """What trains, as it was before the first step."""
    return (load_adapters if policy.model.lora else load_base)(config, policy, mesh)


def load_base(config: Config, policy: Policy, mesh: Mesh) -> Any:
    """The model without adapters, from its directory or drawn from the seed, in `--model.param_dtype`."""
    model = policy.model.clone(lora=None)
    if config.model.init == "random":
        return init_params(model, _init_key(config, part=0), mesh)
    shardings = jax.tree.map(lambda x: x.sharding, placed_shapes(model, mesh))
    return load_params(config.model.path, model.config, model.param_dtype, shardings)


def load_adapters(config: Config, policy: Policy, mesh: Mesh) -> Any:
    """Adapters from `--lora.path`, or new ones that change nothing yet: A drawn from the seed, B = 0."""
    model = policy.model
    if not config.lora.path:
        key = _init_key(config, part=1)
        return init_params(model, key, mesh, select=lambda params: lora.split(params)[1])
    shardings = jax.tree.map(lambda x: x.sharding, trained_shapes(model, mesh))
    return peft.load_adapters(config.lora.path, model.config, model.lora, shardings)


def _init_key(config: Config, part: int) -> jax.Array:
    key_data = jax.random.key_data(jax.random.key(config.seed))
    return purpose_key(key_data, Purpose.INIT, part)
