"""The benchmark's reference work, as data: what is sampled and trained on, nothing of how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.known import known


@dataclass(frozen=True)
class Workload:
    """One step: G responses to each of Q random prompts of `prompt_length` tokens, and one update.

    Every response has `response_length` tokens, or, where `mean_response_length` is given, a geometric
    number of that mean, at most `response_length`. dtype: of matrix products and KV cache.
    bundle_size: questions in a bundle, a divisor of Q.
    """

    model: DecoderConfig
    questions: int
    prompt_length: int
    group_size: int
    response_length: int
    dtype: str
    bundle_size: int = 4
    mean_response_length: int | None = None

    def settings(self) -> dict[str, Any]:
        """The settings of a run that does this work, by dotted name: one update of AdamW, no KL."""
        return {
            "model.compute_dtype": self.dtype,
            "data.questions_per_step": self.questions,
            "data.max_prompt_length": self.prompt_length,
            "rollout.group_size": self.group_size,
            "rollout.max_response_length": self.response_length,
            "algorithm.bundle_size": self.bundle_size,
            "algorithm.kl_coef": 0.0,
            "train.epochs": 1,
            "train.minibatches": 1,
            "lora.rank": 0,
        }

    def prompts_QxP(self) -> np.ndarray:
        """Random tokens, the same in every process."""
        shape = self.questions, self.prompt_length
        return np.random.default_rng(0).integers(0, self.model.vocab_size, shape, np.int32)

    def lengths_QxG(self) -> np.ndarray:
        """The number of tokens of each response, the same in every process."""
        shape = self.questions, self.group_size
        if self.mean_response_length is None:
            return np.full(shape, self.response_length, np.int32)
        drawn = np.random.default_rng(1).geometric(1 / self.mean_response_length, shape)
        return np.minimum(drawn, self.response_length).astype(np.int32)

    def rewards_QxG(self) -> np.ndarray:
        """Right or wrong, of which 0.3 are right: no real responses are graded here."""
        right = np.random.default_rng(2).random((self.questions, self.group_size)) < 0.3
        return right.astype(np.float32)


_SMALL = DecoderConfig(
    vocab_size=4096,
    hidden_size=256,
    intermediate_size=1024,
    num_layers=4,
    num_heads=8,
    num_kv_heads=2,
    head_dim=32,
    tie_embeddings=True,
)

WORKLOADS = {
    "w_small": Workload(_SMALL, 16, 64, 8, 128, "float32"),
    "w_tail": Workload(_SMALL, 16, 64, 8, 512, "float32", mean_response_length=48),
    "w_1.5b": Workload(known("Qwen2.5-1.5B"), 32, 512, 8, 1024, "bfloat16"),
}


def workload(name: str) -> Workload:
    """Raises UserError listing the names."""
    if name not in WORKLOADS:
        raise UserError(f"--workload={name} is not one of {', '.join(WORKLOADS)}")
    return WORKLOADS[name]
