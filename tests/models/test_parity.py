"""The decoder against transformers, for every option of every family; `pytest -n 0 -s` prints the table."""

import json
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from riskpo_jax.models import attention, hf, masks
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.rope import Llama3Scaling
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import make_mesh
from riskpo_jax.types import Prompts

torch = pytest.importorskip(
    "torch", reason="transformers needs PyTorch to compute; the golden logits stand in for it"
)

GREEDY = 64
PROMPT_LENGTHS = np.array([12, 7, 1])
ROW = 12 + GREEDY

SIZES = {
    "vocab_size": 61, "hidden_size": 64, "intermediate_size": 96, "num_layers": 2,
    "num_heads": 8, "num_kv_heads": 2, "head_dim": 8,
}  # fmt: skip
QWEN3 = SIZES | {"model_type": "qwen3", "qkv_bias": False, "qk_norm": True}
# Wavelengths 6, 20, 63 and 199: kept, two blended and one stretched; rows reach position 75.
LLAMA = SIZES | {
    "model_type": "llama", "qkv_bias": False, "rms_norm_eps": 1e-5,
    "rope_theta": 100.0, "rope_scaling": Llama3Scaling(8.0, 1.0, 4.0, 64),
}  # fmt: skip
BIASES = {"qkv_bias": True, "o_bias": True}

CASES = {
    "qwen2, 8 of 8 kv heads, eps 1e-3": SIZES | {"num_kv_heads": 8, "rms_norm_eps": 1e-3},
    "qwen2, 4 kv heads, tied": SIZES | {"num_kv_heads": 4, "tie_embeddings": True},
    "qwen3, 2 kv heads, wide heads, tied": QWEN3
    | {"head_dim": 20, "tie_embeddings": True, "vocab_size": 37},
    "qwen3, 1 kv head, biases": QWEN3 | BIASES | {"num_kv_heads": 1, "rope_theta": 1e6},
    "llama, 2 kv heads, llama3 RoPE": LLAMA,
    "llama, 4 kv heads, all biases, narrow heads, tied": LLAMA
    | BIASES
    | {"num_kv_heads": 4, "head_dim": 6, "mlp_bias": True, "tie_embeddings": True},
}


class Case(NamedTuple):
    """A model that transformers has written, and our reading of it."""

    directory: Path
    config: DecoderConfig
    params: Any
    row: dict[str, str]


@pytest.fixture(scope="module")
def table():
    """Rows of figures by case; printed when all are there."""
    rows = {name: {} for name in CASES}
    yield rows
    columns = list(dict.fromkeys(column for row in rows.values() for column in row))
    print("\n\n| family and options | " + " | ".join(columns) + " |")
    print("|---|" + "---|" * len(columns))
    for name, row in rows.items():
        print(f"| {name} | " + " | ".join(row.get(column, "") for column in columns) + " |")


@pytest.fixture(scope="module", params=CASES)
def case(request, table, tmp_path_factory) -> Case:
    directory = tmp_path_factory.mktemp("model")
    config = DecoderConfig(**CASES[request.param])
    write_with_transformers(directory, config)
    assert DecoderConfig.from_directory(directory) == config
    params = hf.load_params(directory, config)
    return Case(directory, config, params, table[request.param])


def write_with_transformers(directory: Path, config: DecoderConfig) -> None:
    """A random model in which every parameter counts, biases and norms too."""
    from transformers import AutoConfig, AutoModelForCausalLM

    (directory / "config.json").write_text(json.dumps(config.to_hf()))
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(directory))
    rng = np.random.default_rng(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            x = rng.standard_normal(parameter.shape)
            if name.endswith("norm.weight"):
                x = 1 + 0.3 * x
            elif name.endswith("bias"):
                x = 0.5 * x
            else:
                # Loud layers above a quiet embedding, else a tied model repeats its last token.
                x = x * (1 if "embed" in name else 2) / x.shape[-1] ** 0.5
            parameter.copy_(torch.from_numpy(x))
    model.save_pretrained(directory)


def theirs(case: Case, dtype: str = "float32"):
    """transformers' own reading, with its default attention, sdpa."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(case.directory, dtype=getattr(torch, dtype))


@torch.no_grad()
def their_logits(model, tokens_BxT, valid_BxT) -> np.ndarray:
    """float32 logits of the valid slots."""
    positions = torch.tensor(np.asarray(masks.positions_from_valid(valid_BxT))).long()
    mask = torch.tensor(valid_BxT).long()
    logits = model(torch.tensor(tokens_BxT), attention_mask=mask, position_ids=positions).logits
    return logits.float().numpy()[valid_BxT]


@partial(jax.jit, static_argnums=0)
def our_logits(model, params, tokens_BxT, positions_BxT, attend):
    hidden, _ = model.apply({"params": params}, tokens_BxT, positions_BxT, attend)
    return model.apply({"params": params}, hidden, method="unembed")


def left_padded(lengths: np.ndarray, T: int) -> np.ndarray:
    return np.arange(T)[None, :] >= T - lengths[:, None]


def random_rows(config: DecoderConfig) -> tuple[np.ndarray, np.ndarray]:
    """Tokens and valid slots of three rows, left-padded by 0, 5 and 40."""
    tokens = np.random.default_rng(1).integers(0, config.vocab_size, (3, ROW))
    return tokens, left_padded(np.array([ROW, ROW - 5, ROW - 40]), ROW)


def logits_of_rows(model: Decoder, params, tokens, valid) -> np.ndarray:
    args = tokens, masks.positions_from_valid(valid), attention.masked(masks.causal(valid))
    return np.asarray(our_logits(model, params, *args))[valid]


def rms(x: np.ndarray) -> float:
    return float(np.sqrt(np.mean(x**2)))


def test_float32_logits(case):
    tokens, valid = random_rows(case.config)
    expected = their_logits(theirs(case), tokens, valid)
    error = logits_of_rows(Decoder(case.config), case.params, tokens, valid) - expected
    case.row["fp32 max"] = f"{np.abs(error).max():.1e}"
    assert expected.std() > 0.5
    assert np.abs(error).max() < 1e-4


@pytest.mark.parametrize("dtype, name", [("bfloat16", "bf16"), ("float16", "fp16")])
def test_half_precision_is_nearer_the_truth_than_theirs(case, dtype, name):
    """The truth is float32 arithmetic on the rounded weights; eager and sdpa are both theirs.

    Our norms, RoPE and logits stay in float32 where theirs round to half precision. So our error is
    the smallest of the three, and eager is nearer to sdpa, which rounds at the same places, than to us.
    """
    tokens, valid = random_rows(case.config)
    model = theirs(case, dtype)
    sdpa = their_logits(model, tokens, valid)
    model.set_attn_implementation("eager")
    eager = their_logits(model, tokens, valid)
    truth = their_logits(model.float(), tokens, valid)
    half = jnp.dtype(dtype)
    params = hf.load_params(case.directory, case.config, half)
    ours = logits_of_rows(Decoder(case.config, half, half), params, tokens, valid)
    case.row[f"{name} to fp32: ours, eager, sdpa"] = ", ".join(
        f"{rms(x - truth):.4f}" for x in (ours, eager, sdpa)
    )
    case.row[f"{name} to eager: ours, sdpa"] = ", ".join(
        f"{rms(x - eager):.4f}" for x in (ours, sdpa)
    )
    assert rms(ours - truth) < 1.1 * min(rms(eager - truth), rms(sdpa - truth))
    assert rms(ours - eager) < 2 * rms(sdpa - eager)


def test_padding_and_packing_change_nothing(case):
    """Three sequences alone, padded left or right with junk, and packed into one row."""
    rng, lengths, model = np.random.default_rng(2), (12, 7, 10), Decoder(case.config)
    sequences = rng.integers(0, case.config.vocab_size, (3, 12))
    whole = np.ones((3, 12), bool)
    args = sequences, masks.positions_from_valid(whole), attention.masked(masks.causal(whole))
    alone = np.asarray(our_logits(model, case.params, *args))

    def check(segments, begins):
        """Sequence i stands in segment i + 1, from slot begins[i] of its row."""
        tokens = rng.integers(0, case.config.vocab_size, segments.shape)
        places = []
        for i, (begin, length) in enumerate(zip(begins, lengths, strict=True)):
            row = int(np.flatnonzero((segments == i + 1).any(1))[0])
            places.append((row, slice(begin, begin + length)))
            tokens[places[-1]] = sequences[i, :length]
        logits = our_logits(
            model,
            case.params,
            tokens,
            masks.positions_from_segments(segments),
            attention.masked(masks.packed(segments)),
        )
        for i, (place, length) in enumerate(zip(places, lengths, strict=True)):
            np.testing.assert_allclose(logits[place], alone[i, :length], atol=1e-5)

    slots, ids = np.arange(ROW)[None, :], np.array([1, 2, 3])[:, None]
    length = np.array(lengths)[:, None]
    check(np.where(slots >= ROW - length, ids, 0), [ROW - n for n in lengths])
    check(np.where(slots < length, ids, 0), [0, 0, 0])
    packed = np.zeros((3, ROW), int)
    packed[0, 3:32] = np.repeat([1, 2, 3], lengths)
    check(packed, [3, 15, 22])


def test_greedy_tokens_and_cached_decode(case):
    """64 tokens after prompts, left-padded for transformers: theirs, and what a full forward pass says."""
    rng = np.random.default_rng(3)
    prompts, N, P = rng.integers(0, case.config.vocab_size, (3, 12)), 3, 12
    model, valid = Decoder(case.config), left_padded(PROMPT_LENGTHS, P)
    sampler = Sampler(Programs(model, make_mesh(), longest=GREEDY, eos_ids=(-1,)), slots=3)
    begin = np.stack([np.roll(r, n) for r, n in zip(prompts, PROMPT_LENGTHS, strict=True)])
    rollout = sampler(
        case.params, jax.random.key(0), Prompts(begin, PROMPT_LENGTHS), 1, SamplingParams(0.0)
    )
    ours = np.asarray(rollout.tokens)
    expected = theirs(case).generate(
        torch.tensor(prompts), attention_mask=torch.tensor(valid).long(), do_sample=False,
        max_new_tokens=GREEDY, eos_token_id=None, pad_token_id=0,
    )[:, P:].numpy()  # fmt: skip
    case.row["greedy"] = f"{(ours == expected).sum()} of {expected.size}"
    np.testing.assert_array_equal(ours, expected)
    assert len(np.unique(ours)) > 20  # not one token over and over

    valid = np.concatenate([valid, np.ones((N, GREEDY), bool)], axis=1)
    args = masks.positions_from_valid(valid), attention.masked(masks.causal(valid))
    full = our_logits(model, case.params, np.concatenate([prompts, ours], axis=1), *args)
    logprobs = np.asarray(jax.nn.log_softmax(full[:, P - 1 : -1], axis=-1))
    np.testing.assert_array_equal(logprobs.argmax(-1), ours)
    chosen = np.take_along_axis(logprobs, ours[:, :, None], axis=-1)[:, :, 0]
    np.testing.assert_allclose(rollout.logprobs, chosen, atol=1e-5)
