"""What the `model_type` of a `config.json` implies, and the options that no family here computes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from riskpo_jax.errors import UserError
from riskpo_jax.models.config_json import JsonObject
from riskpo_jax.models.rope import Llama3Scaling

ROPE_TYPES = ("default", "llama3")


@dataclass(frozen=True)
class Family:
    """One architecture of transformers.

    bias_keys: the keys of config.json that give it biases; qkv_bias: it has those of q, k and v
    without being told. head_dim: where config.json has none; None is hidden_size / num_heads.
    """

    architecture: str
    bias_keys: tuple[str, ...] = ()
    qkv_bias: bool = False
    qk_norm: bool = False
    head_dim: int | None = None

    def read_biases(self, config: JsonObject) -> dict[str, bool]:
        """The bias fields of DecoderConfig."""
        given = {key: config.get(key, bool, False) for key in self.bias_keys}
        attention = given.get("attention_bias", False)
        return {
            "qkv_bias": self.qkv_bias or attention,
            "o_bias": attention,
            "mlp_bias": given.get("mlp_bias", False),
        }

    def write_biases(self, attention: bool, mlp: bool) -> dict[str, bool]:
        """The keys that `read_biases` reads."""
        given = {"attention_bias": attention, "mlp_bias": mlp}
        return {key: given[key] for key in self.bias_keys}


FAMILIES = {
    "qwen2": Family("Qwen2ForCausalLM", qkv_bias=True),
    "qwen3": Family("Qwen3ForCausalLM", bias_keys=("attention_bias",), qk_norm=True, head_dim=128),
    "llama": Family("LlamaForCausalLM", bias_keys=("attention_bias", "mlp_bias")),
}

# Options that would change the result, and the values at which they do not.
_NEUTRAL = {
    "use_sliding_window": (False, None),
    "attention_dropout": (0, None),
    "quantization_config": (None, {}),
    "partial_rotary_factor": (1, None),
    "pretraining_tp": (1, None),
    "num_experts": (0, None),
    "num_local_experts": (0, None),
    "num_experts_per_tok": (0, None),
    "n_routed_experts": (0, None),
    "moe_intermediate_size": (0, None),
    "attn_logit_softcapping": (None,),
    "final_logit_softcapping": (None,),
    "attention_multiplier": (None,),  # in place of 1 / sqrt(head_dim)
    "query_pre_attn_scalar": (None,),
    "embedding_multiplier": (1, None),
    "residual_multiplier": (1, None),
    "logits_scaling": (1, None),
    "use_mrope": (False, None),
}


def refuse_unsupported(config: JsonObject, family: Family) -> None:
    """Raises UserError for every option of `config.json` that the decoder does not compute."""
    config.allow("hidden_act", config.values.get("hidden_act", "silu"), ("silu",))
    for architecture in config.get("architectures", list, []):
        config.allow("architectures", architecture, (family.architecture,))
    for layer_type in config.get("layer_types", list, []):
        config.allow("layer_types", layer_type, ("full_attention",))
    for part in (config, config.child("rope_scaling"), config.child("rope_parameters")):
        for key, neutral in _NEUTRAL.items():
            if part.values.get(key) not in neutral:
                raise part.error(
                    f"{part.prefix}{key} = {part.values[key]!r} is not supported; use a dense, "
                    "unquantized model with full attention, full RoPE, no capping and no multipliers"
                )


def read_rope(config: JsonObject) -> tuple[float, Llama3Scaling | None]:
    """RoPE's base and scaling, from `rope_parameters` (transformers 5) or, older, `rope_theta` and
    `rope_scaling`, which wins where both are (as in transformers 5)."""
    old, new = config.child("rope_scaling"), config.child("rope_parameters")
    for rope in (old, new):
        rope.allow("rope_type", _rope_type(rope), ROPE_TYPES)
    rope = old if old.values else new
    given = [part for part in (config, old, new) if part.values.get("rope_theta") is not None]
    thetas = {part.positive("rope_theta") for part in given}
    if not thetas:
        raise config.error("missing key 'rope_theta' (or rope_parameters.rope_theta)")
    if len(thetas) > 1:
        raise config.error(f"rope_theta has several values, {sorted(thetas)}; leave the right one")
    (theta,) = thetas
    if _rope_type(rope) == "default":
        return theta, None
    factors = [rope.positive(key) for key in ("factor", "low_freq_factor", "high_freq_factor")]
    original = rope.size("original_max_position_embeddings")
    try:
        return theta, Llama3Scaling(*factors, original)
    except UserError as error:
        raise config.error(str(error)) from None


def write_rope(theta: float, scaling: Llama3Scaling | None) -> dict[str, Any]:
    """The keys that `read_rope` reads, in the notation of transformers 4 and of 5."""
    if scaling is None:
        return {
            "rope_theta": theta,
            "rope_parameters": {"rope_theta": theta, "rope_type": "default"},
        }
    rope = {"rope_type": "llama3", **dataclasses.asdict(scaling)}
    return {
        "rope_theta": theta,
        "rope_scaling": rope,
        "rope_parameters": {"rope_theta": theta, **rope},
    }


def _rope_type(rope: JsonObject) -> Any:
    """Plain where nothing is said; a nameless object with a factor is not."""
    nameless = None if "factor" in rope.values else "default"
    return rope.values.get("rope_type", rope.values.get("type", nameless))
