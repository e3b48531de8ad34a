"""The shape of a decoder, read from and written to a Hugging Face `config.json`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from riskpo_jax.errors import UserError

MODEL_TYPES = ("qwen2",)
ACTIVATIONS = ("silu",)
ROPE_TYPES = ("default",)


@dataclass(frozen=True)
class DecoderConfig:
    """Sizes and constants of a pre-norm decoder with grouped-query attention, RoPE and SwiGLU.

    `num_heads` query heads share `num_kv_heads` key-value heads; all have `head_dim` features.
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
    rms_norm_eps: float = 1e-6
    tie_embeddings: bool = False
    qkv_bias: bool = True
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
        file = Path(path) / "config.json"
        try:
            mapping = json.loads(file.read_text())
        except FileNotFoundError:
            raise UserError(f"{file} does not exist; give a Hugging Face model directory") from None
        except ValueError as error:
            raise UserError(
                f"{file} is not valid JSON ({error}); copy the directory again"
            ) from None
        if not isinstance(mapping, dict):
            raise UserError(f"{file} must hold a JSON object, not {type(mapping).__name__}")
        return cls.from_hf(mapping, str(file))

    @classmethod
    def from_hf(cls, mapping: Mapping[str, Any], where: str) -> DecoderConfig:
        """Builds the config from the contents of a `config.json`; `where` names it in errors.

        Raises UserError for a missing key and for every setting that this decoder does not compute.
        """

        def need(key: str) -> Any:
            if mapping.get(key) is None:
                raise UserError(f"{where}: missing key {key!r}")
            return mapping[key]

        _refuse_unless(where, "model_type", need("model_type"), MODEL_TYPES)
        _refuse_unless(where, "hidden_act", mapping.get("hidden_act", "silu"), ACTIVATIONS)
        _refuse_unsupported(mapping, where)
        num_heads = need("num_attention_heads")
        values = {
            "vocab_size": need("vocab_size"),
            "hidden_size": need("hidden_size"),
            "intermediate_size": need("intermediate_size"),
            "num_layers": need("num_hidden_layers"),
            "num_heads": num_heads,
            "num_kv_heads": mapping.get("num_key_value_heads") or num_heads,
            "head_dim": mapping.get("head_dim") or need("hidden_size") // num_heads,
            "rope_theta": float(_rope_theta(mapping, where)),
            "rms_norm_eps": float(need("rms_norm_eps")),
            "tie_embeddings": bool(mapping.get("tie_word_embeddings", False)),
            "max_position_embeddings": need("max_position_embeddings"),
            "initializer_range": float(mapping.get("initializer_range", 0.02)),
            "eos_token_ids": _as_tuple(mapping.get("eos_token_id")),
            "bos_token_id": mapping.get("bos_token_id"),
            "pad_token_id": mapping.get("pad_token_id"),
        }
        try:
            return cls(**values)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def to_hf(self) -> dict[str, Any]:
        """The dictionary that transformers reads back as the same model.

        `rope_theta` is written in both places: transformers 5 reads `rope_parameters`, 4 the other.
        """
        eos = self.eos_token_ids
        return {
            "architectures": ["Qwen2ForCausalLM"],
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
            "rope_theta": self.rope_theta,
            "rope_parameters": {"rope_theta": self.rope_theta, "rope_type": "default"},
            "max_position_embeddings": self.max_position_embeddings,
            "initializer_range": self.initializer_range,
            "tie_word_embeddings": self.tie_embeddings,
            "use_sliding_window": False,
            "attention_dropout": 0.0,
            "eos_token_id": list(eos) if len(eos) > 1 else (eos[0] if eos else None),
            "bos_token_id": self.bos_token_id,
            "pad_token_id": self.pad_token_id,
        }


def _refuse_unless(where: str, key: str, value: Any, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UserError(
            f"{where}: {key} = {value!r} is not supported; allowed: {', '.join(allowed)}"
        )


def _refuse_unsupported(mapping: Mapping[str, Any], where: str) -> None:
    if mapping.get("use_sliding_window"):
        raise UserError(f"{where}: use_sliding_window = true is not supported; allowed: false")
    for layer_type in mapping.get("layer_types") or ():
        _refuse_unless(where, "layer_types", layer_type, ("full_attention",))
    if mapping.get("quantization_config"):
        raise UserError(
            f"{where}: quantization_config is not supported; save the model unquantized"
        )


def _rope_theta(mapping: Mapping[str, Any], where: str) -> float:
    """The RoPE base, from `rope_parameters` (transformers 5) or the top level (older)."""
    for key in ("rope_parameters", "rope_scaling"):
        rope = mapping.get(key) or {}
        rope_type = rope.get("rope_type", rope.get("type", "default"))
        _refuse_unless(where, f"{key}.rope_type", rope_type, ROPE_TYPES)
    theta = (mapping.get("rope_parameters") or {}).get("rope_theta", mapping.get("rope_theta"))
    if theta is None:
        raise UserError(f"{where}: missing key 'rope_theta' (or rope_parameters.rope_theta)")
    return theta


def _as_tuple(ids: int | list[int] | None) -> tuple[int, ...]:
    if ids is None:
        return ()
    return tuple(ids) if isinstance(ids, (list, tuple)) else (ids,)
