"""Makes tests/models/golden/: tiny Qwen2 directories and the logits that transformers computes.

    python tests/models/make_golden.py        (needs torch and transformers)

Each directory is written by transformers itself, in half precision; `expected.npz` holds tokens,
the attention mask (left padding) and the float32 logits of the weights as stored.
"""

from pathlib import Path

import numpy as np
import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

GOLDEN = Path(__file__).parent / "golden"
CASES = {
    "qwen2_tied_fp16": {
        "dtype": torch.float16,
        "num_key_value_heads": 1,
        "tie_word_embeddings": True,
        "rope_theta": 10_000.0,
    },
    "qwen2_untied_bf16_sharded": {
        "dtype": torch.bfloat16,
        "num_key_value_heads": 2,
        "tie_word_embeddings": False,
        "rope_theta": 1e6,
    },
}


def make(name: str, dtype: torch.dtype, rope_theta: float, **config) -> None:
    directory = GOLDEN / name
    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=37, hidden_size=32, intermediate_size=40, num_hidden_layers=2,
            num_attention_heads=4, max_position_embeddings=64,
            rope_parameters={"rope_theta": rope_theta, "rope_type": "default"}, **config,
        )
    )  # fmt: skip
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    sharded = {"max_shard_size": "20KB"} if name.endswith("sharded") else {}
    model.to(dtype).save_pretrained(directory, **sharded)

    model = Qwen2ForCausalLM.from_pretrained(directory, dtype=torch.float32)
    tokens = torch.randint(0, 37, (3, 12))
    mask = torch.arange(12)[None] >= torch.tensor([0, 3, 8])[:, None]
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        logits = model(tokens, attention_mask=mask.long(), position_ids=positions).logits
    for file in directory.glob("*.safetensors"):
        file.chmod(0o644)
    np.savez(
        directory / "expected.npz", tokens=tokens.numpy(), valid=mask.numpy(), logits=logits.numpy()
    )


if __name__ == "__main__":
    torch.manual_seed(0)
    for name, case in CASES.items():
        make(name, **case)
