"""Compares our reading of a model with transformers': `python -m experiments.parity --model.path=DIR`.

Logits of random tokens behind left padding, and 64 greedy tokens, in --model.compute_dtype; needs
PyTorch, and runs on the CPU, one model in memory at a time. Exit status 1: they differ by more than
rounding.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from rich.console import Console
from rich.table import Table

from experiments import flags as experiment_flags
from riskpo_jax.errors import UserError
from riskpo_jax.models import hf, masks
from riskpo_jax.models.attention import masked
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training.setup import check_model_directory
from riskpo_jax.types import Prompts

_TOKENS = flags.DEFINE_integer("tokens", 32, "Random tokens of the longest row.", lower_bound=1)

GREEDY = 64
FLOAT32 = 1e-4  # of the largest logit, at most: the error of float32
HALF = 2.0  # times transformers' own distance to float32, at most: ours in half precision


class Theirs(NamedTuple):
    """Logits of the valid slots, float32[n, V]: transformers' two attentions, and float32 arithmetic
    on the same weights. Greedy tokens are [B, GREEDY]."""

    eager: np.ndarray
    sdpa: np.ndarray
    truth: np.ndarray
    greedy: np.ndarray


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    experiment_flags.refuse_settings("model.path", "model.compute_dtype")
    directory = Path(flags.FLAGS["model.path"].value)
    dtype = flags.FLAGS["model.compute_dtype"].value
    check_model_directory(directory)
    config = DecoderConfig.from_directory(directory)
    hf.open_checked(directory, config)
    tokens_BxT, lengths_B = random_prompts(config.vocab_size, _TOKENS.value)
    theirs = their_outputs(directory, dtype, tokens_BxT, lengths_B)
    logits, greedy = our_outputs(directory, config, dtype, tokens_BxT, lengths_B)
    if dtype == "float32":
        error, sdpa = (np.abs(x - theirs.eager).max() for x in (logits, theirs.sdpa))
        tolerance = FLOAT32 * max(1.0, np.abs(theirs.eager).max())
    else:
        error, sdpa = (rms(x - theirs.truth) for x in (logits, theirs.sdpa))
        tolerance = HALF * sdpa
    table = Table(
        "model", "type", "dtype", "error", "sdpa's error", "tolerance", "greedy agreement"
    )
    table.add_row(
        directory.resolve().name,
        config.model_type,
        dtype,
        *(f"{x:.1e}" for x in (error, sdpa, tolerance)),
        f"{(greedy == theirs.greedy).sum()} of {greedy.size}",
    )
    Console().print(table)
    if not error <= tolerance:
        sys.exit(1)


def random_prompts(vocab_size: int, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Tokens [3, T] and lengths [3]: a full row, half a row and one token, all left-padded."""
    tokens_BxT = np.random.default_rng(0).integers(0, vocab_size, (3, T))
    return tokens_BxT, np.array([T, (T + 1) // 2, 1])


def their_outputs(
    directory: Path, dtype: str, tokens_BxT: np.ndarray, lengths_B: np.ndarray
) -> Theirs:
    """What transformers computes.

    Raises:
      UserError: PyTorch is not installed.
    """
    try:
        import torch
        from transformers import AutoModelForCausalLM, GenerationConfig
    except ImportError:
        raise UserError(
            "experiments.parity compares with PyTorch: pip install '.[parity]'"
        ) from None
    model = AutoModelForCausalLM.from_pretrained(directory, dtype=getattr(torch, dtype))
    model.generation_config = GenerationConfig()  # no penalty, no end of sequence
    T = tokens_BxT.shape[1]
    valid_BxT = valid_slots(lengths_B, T)
    tokens, mask = torch.tensor(tokens_BxT), torch.tensor(valid_BxT).long()
    positions = torch.tensor(np.asarray(masks.positions_from_valid(valid_BxT))).long()

    @torch.no_grad()
    def logits(attention: str) -> np.ndarray:
        model.set_attn_implementation(attention)
        whole = model(tokens, attention_mask=mask, position_ids=positions).logits
        return whole.float().numpy()[valid_BxT]

    greedy = model.generate(
        tokens, attention_mask=mask, do_sample=False, max_new_tokens=GREEDY, pad_token_id=0
    )
    eager, sdpa = logits("eager"), logits("sdpa")
    model.float()
    return Theirs(eager, sdpa, logits("eager"), greedy[:, T:].numpy())


def our_outputs(
    directory: Path,
    config: DecoderConfig,
    dtype: str,
    tokens_BxT: np.ndarray,
    lengths_B: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """What this package computes: logits [n, V] and greedy tokens [B, GREEDY]."""
    model = Decoder(config, jnp.dtype(dtype), jnp.dtype(dtype))
    params = hf.load_params(directory, config, jnp.dtype(dtype))
    valid_BxT = valid_slots(lengths_B, tokens_BxT.shape[1])
    begin_BxT = np.stack([np.roll(r, n) for r, n in zip(tokens_BxT, lengths_B, strict=True)])
    programs = Programs(model, make_mesh(), longest=GREEDY, eos_ids=(-1,))
    greedy = Sampler(programs, slots=len(lengths_B))(
        params, jax.random.key(0), Prompts(begin_BxT, lengths_B), 1, SamplingParams(temperature=0.0)
    )
    logits = np.asarray(full_logits(model, params, tokens_BxT, valid_BxT))
    return logits[valid_BxT], greedy.tokens


@partial(jax.jit, static_argnums=0)
def full_logits(model: Decoder, params: Any, tokens_BxT: Any, valid_BxT: Any) -> jax.Array:
    """float32[B, T, V]"""
    positions, attend = masks.positions_from_valid(valid_BxT), masked(masks.causal(valid_BxT))
    hidden_BxTxM, _ = model.apply({"params": params}, tokens_BxT, positions, attend)
    return model.apply({"params": params}, hidden_BxTxM, method="unembed")


def valid_slots(lengths_B: np.ndarray, T: int) -> np.ndarray:
    """bool[B, T]: the last `lengths_B` slots of each row."""
    return np.arange(T)[None, :] >= T - lengths_B[:, None]


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


if __name__ == "__main__":
    experiment_flags.run(main)
