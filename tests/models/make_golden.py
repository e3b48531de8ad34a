"""Makes tests/models/golden/: tiny directories of each family and the logits transformers computes.

    python tests/models/make_golden.py [NAME ...]        (needs torch and transformers 5)

Each directory is written by transformers itself, in half precision; `expected.npz` holds tokens,
the attention mask (left padding) and the float32 logits of the weights as stored.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM

GOLDEN = Path(__file__).parent / "golden"
LLAMA3 = {
    "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 1.0,
    "high_freq_factor": 4.0, "original_max_position_embeddings": 16,
}  # fmt: skip
CASES = {
    "qwen2_tied_fp16": {
        "dtype": torch.float16,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 10_000.0},
    },
    "qwen2_untied_bf16_sharded": {
        "dtype": torch.bfloat16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "qwen3_tied_bf16": {
        "dtype": torch.bfloat16,
        "num_key_value_heads": 2,
        "head_dim": 12,
        "tie_word_embeddings": True,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    },
    "llama_untied_bf16_rope_biases": {
        "dtype": torch.bfloat16,
        "num_key_value_heads": 4,
        "attention_bias": True,
        "mlp_bias": True,
        "tie_word_embeddings": False,
        "rope_parameters": LLAMA3,
        "length": 40,
    },
}


def make(name: str, dtype: torch.dtype, length: int = 12, **config) -> None:
    directory = GOLDEN / name
    model = AutoModelForCausalLM.from_config(
        AutoConfig.for_model(
            name.split("_")[0], vocab_size=37, hidden_size=32, intermediate_size=40,
            num_hidden_layers=2, num_attention_heads=4, max_position_embeddings=64, **config,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    sharded = {"max_shard_size": "20KB"} if name.endswith("sharded") else {}
    model.to(dtype).save_pretrained(directory, **sharded)

    model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokens = torch.randint(0, 37, (3, length))
    mask = torch.arange(length)[None] >= torch.tensor([0, 3, 8])[:, None]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(tokens, attention_mask=mask.long(), position_ids=positions).logits
    for file in directory.glob("*.safetensors"):
        file.chmod(0o644)
    np.savez_compressed(
        directory / "expected.npz", tokens=tokens.numpy(), valid=mask.numpy(), logits=logits.numpy()
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    for name in sys.argv[1:] or CASES:
        make(name, **CASES[name])
