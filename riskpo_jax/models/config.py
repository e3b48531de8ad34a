"""The shape of a decoder, read from and written to a Hugging Face `config.json`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from riskpo_jax.errors import UserError
from riskpo_jax.models import families
from riskpo_jax.models.config_json import JsonObject
from riskpo_jax.models.families import FAMILIES
from riskpo_jax.models.rope import Llama3Scaling


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and constants of a pre-norm decoder with grouped-query attention, RoPE and SwiGLU.

    `num_heads` query heads share `num_kv_heads` key-value heads; all have `head_dim` features, and
    with `qk_norm` each query and key is normalised. The biases are those of the q, k and v
    projections, of the output projection, and of the three feed-forward matrices.
    `eos_token_ids` and the two ids after it are only carried between directories.
    """

    vocab_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    rope_theta: float = 10_000.0
    rope_scaling: Llama3Scaling | None = None
    rms_norm_eps: float = 1e-6
    tie_embeddings: bool = False
    qkv_bias: bool = True
    o_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    max_position_embeddings: int = 32_768
    initializer_range: float = 0.02
    model_type: str = "qwen2"
    eos_token_ids: tuple[int, ...] = ()
    bos_token_id: int | None = None
    pad_token_id: int | None = None

    def __post_init__(self):
        if self.num_heads % self.num_kv_heads:
            raise UserError(
                f"num_kv_heads = {self.num_kv_heads} does not divide num_heads = {self.num_heads}"
            )
        if self.head_dim % 2:
            raise UserError(f"head_dim = {self.head_dim} is odd; RoPE rotates pairs of features")

    @classmethod
    def from_directory(cls, path: str | Path) -> DecoderConfig:
        """Reads `config.json` of a Hugging Face model directory."""
        remedy = "give a Hugging Face model directory"
        config = JsonObject.read(Path(path) / "config.json", remedy)
        return cls.from_hf(config.values, config.where)

    @classmethod
    def from_hf(cls, mapping: Mapping[str, Any], where: str) -> DecoderConfig:
        """Builds the config from the contents of a `config.json`; `where` names it in errors.

        Raises UserError for a missing key and for every setting that this decoder does not compute.
        """
        config = JsonObject(mapping, where)
        model_type = config.need("model_type", str)
        config.allow("model_type", model_type, tuple(FAMILIES))
        family = FAMILIES[model_type]
        families.refuse_unsupported(config, family)
        hidden_size, num_heads = config.size("hidden_size"), config.size("num_attention_heads")
        rope_theta, rope_scaling = families.read_rope(config)
        vocab_size = config.size("vocab_size")
        fields = {
            "vocab_size": vocab_size,
            "hidden_size": hidden_size,
            "intermediate_size": config.size("intermediate_size"),
            "num_layers": config.size("num_hidden_layers"),
            "num_heads": num_heads,
            "num_kv_heads": config.size("num_key_value_heads"),
            "head_dim": config.size("head_dim", family.head_dim or hidden_size // num_heads),
            "rope_theta": rope_theta,
            "rope_scaling": rope_scaling,
            "rms_norm_eps": config.positive("rms_norm_eps"),
            "tie_embeddings": config.get("tie_word_embeddings", bool, False),
            "qk_norm": family.qk_norm,
            **family.read_biases(config),
            "max_position_embeddings": config.size("max_position_embeddings"),
            "initializer_range": config.get("initializer_range", float, 0.02),
            "model_type": model_type,
            "eos_token_ids": config.ids("eos_token_id", vocab_size),
            "bos_token_id": config.get("bos_token_id", int),
            "pad_token_id": config.get("pad_token_id", int),
        }
        try:
            return cls(**fields)
        except UserError as error:
            raise config.error(str(error)) from None

    def to_hf(self) -> dict[str, Any]:
        """The dictionary that transformers reads back as the same model.

        RoPE is written in both places: transformers 5 reads `rope_parameters`, 4 the others. Raises
        UserError for a combination of options that the `model_type` cannot express.
        """
        eos, family = self.eos_token_ids, FAMILIES[self.model_type]
        mapping = {
            "architectures": [family.architecture],
            "model_type": self.model_type,
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_layers,
            "num_attention_heads": self.num_heads,
            "num_key_value_heads": self.num_kv_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "rms_norm_eps": self.rms_norm_eps,
            **families.write_rope(self.rope_theta, self.rope_scaling),
            "max_position_embeddings": self.max_position_embeddings,
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": self.tie_embeddings,
            "use_sliding_window": False,
            **family.write_biases(self.o_bias, self.mlp_bias),
            "attention_dropout": 0.0,
            "eos_token_id": list(eos) if len(eos) > 1 else (eos[0] if eos else None),
            "bos_token_id": self.bos_token_id,
            "pad_token_id": self.pad_token_id,
        }
        if DecoderConfig.from_hf(mapping, "config.json") != self:
            raise UserError(f"no {family.architecture} has the options of {self}")
        return mapping
