"""The published models' configurations, so that planning and benchmarks need no download.

Each is what `DecoderConfig.from_directory` reads from the directory of that name. Instruct models differ
from the base models here in `eos_token_ids` and, some, in `max_position_embeddings`.
"""

from __future__ import annotations

from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.rope import Llama3Scaling

_SIZES = (
    "hidden_size", "intermediate_size", "num_layers", "num_heads", "num_kv_heads", "head_dim",
)  # fmt: skip


def _qwen2(*sizes: int, **others) -> DecoderConfig:
    common = {
        "vocab_size": 151_936, "rope_theta": 1e6, "max_position_embeddings": 131_072,
        "bos_token_id": 151_643, "eos_token_ids": (151_643,),
    }  # fmt: skip
    return DecoderConfig(**dict(zip(_SIZES, sizes, strict=True)), **(common | others))


def _r1_distill(*sizes: int, **others) -> DecoderConfig:
    return _qwen2(*sizes, rope_theta=1e4, bos_token_id=151_646, **others)


def _qwen3(*sizes: int, **others) -> DecoderConfig:
    return _qwen2(
        *sizes, model_type="qwen3", qkv_bias=False, qk_norm=True, max_position_embeddings=40_960,
        eos_token_ids=(151_645,), **others,
    )  # fmt: skip


def _llama3(*sizes: int, rope_factor: float = 8.0, **others) -> DecoderConfig:
    return _qwen2(
        *sizes, model_type="llama", qkv_bias=False, vocab_size=128_256, rope_theta=5e5,
        rope_scaling=Llama3Scaling(rope_factor, 1.0, 4.0, 8192), rms_norm_eps=1e-5,
        bos_token_id=128_000, eos_token_ids=(128_001,), **others,
    )  # fmt: skip


_TIED = {"tie_embeddings": True}
_LARGE = {"vocab_size": 152_064, "rms_norm_eps": 1e-5}

KNOWN: dict[str, DecoderConfig] = {
    "Qwen2.5-0.5B": _qwen2(896, 4864, 24, 14, 2, 64, max_position_embeddings=32_768, **_TIED),
    "Qwen2.5-1.5B": _qwen2(1536, 8960, 28, 12, 2, 128, **_TIED),
    "Qwen2.5-3B": _qwen2(2048, 11_008, 36, 16, 2, 128, max_position_embeddings=32_768, **_TIED),
    "Qwen2.5-7B": _qwen2(3584, 18_944, 28, 28, 4, 128, vocab_size=152_064),
    "Qwen2.5-14B": _qwen2(5120, 13_824, 48, 40, 8, 128, **_LARGE),
    "Qwen2.5-32B": _qwen2(5120, 27_648, 64, 40, 8, 128, **_LARGE),
    "DeepSeek-R1-Distill-Qwen-1.5B": _r1_distill(1536, 8960, 28, 12, 2, 128),
    "DeepSeek-R1-Distill-Qwen-7B": _r1_distill(3584, 18_944, 28, 28, 4, 128, vocab_size=152_064),
    "Qwen3-0.6B": _qwen3(1024, 3072, 28, 16, 8, 128, **_TIED),
    "Qwen3-1.7B": _qwen3(2048, 6144, 28, 16, 8, 128, **_TIED),
    "Qwen3-4B": _qwen3(2560, 9728, 36, 32, 8, 128, **_TIED),
    "Qwen3-8B": _qwen3(4096, 12_288, 36, 32, 8, 128),
    "Llama-3.1-8B": _llama3(4096, 14_336, 32, 32, 8, 128),
    "Llama-3.1-70B": _llama3(8192, 28_672, 80, 64, 8, 128),
    "Llama-3.2-1B": _llama3(2048, 8192, 16, 32, 8, 64, rope_factor=32.0, **_TIED),
    "Llama-3.2-3B": _llama3(3072, 8192, 28, 24, 8, 128, rope_factor=32.0, **_TIED),
}


def known(name: str) -> DecoderConfig:
    """The configuration of a published model; case does not count, nor the owner before a slash.

    "R1-Distill-..." is short for "DeepSeek-R1-Distill-...". Raises UserError listing the names.
    """
    wanted = name.rsplit("/", 1)[-1].lower()
    for full, config in KNOWN.items():
        if wanted in (full.lower(), full.lower().removeprefix("deepseek-")):
            return config
    raise UserError(f"no known model is called {name!r}; known: {', '.join(KNOWN)}")
