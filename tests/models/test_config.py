"""config.json in and out, and what is refused."""

import json

import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig

# Qwen/Qwen2.5-0.5B's config.json, as transformers 4 wrote it.
QWEN25 = {
    "architectures": ["Qwen2ForCausalLM"],
    "attention_dropout": 0.0,
    "bos_token_id": 151643,
    "eos_token_id": 151643,
    "hidden_act": "silu",
    "hidden_size": 896,
    "initializer_range": 0.02,
    "intermediate_size": 4864,
    "max_position_embeddings": 32768,
    "max_window_layers": 24,
    "model_type": "qwen2",
    "num_attention_heads": 14,
    "num_hidden_layers": 24,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-06,
    "rope_theta": 1000000.0,
    "sliding_window": 32768,
    "tie_word_embeddings": True,
    "torch_dtype": "bfloat16",
    "use_sliding_window": False,
    "vocab_size": 151936,
}


def without(*keys):
    return {key: value for key, value in QWEN25.items() if key not in keys}


def test_reads_a_published_config():
    config = DecoderConfig.from_hf(QWEN25, "config.json")
    assert config == DecoderConfig(
        vocab_size=151936, hidden_size=896, intermediate_size=4864, num_layers=24, num_heads=14,
        num_kv_heads=2, head_dim=64, rope_theta=1e6, tie_embeddings=True, eos_token_ids=(151643,),
        bos_token_id=151643,
    )  # fmt: skip


def test_reads_rope_parameters_of_transformers_5():
    rope = {"rope_parameters": {"rope_theta": 5e5, "rope_type": "default"}}
    assert DecoderConfig.from_hf(without("rope_theta") | rope, "config.json").rope_theta == 5e5


@pytest.mark.parametrize("eos", [None, 7, [7, 9]])
def test_round_trip(eos):
    config = DecoderConfig.from_hf(QWEN25 | {"eos_token_id": eos, "head_dim": 32}, "config.json")
    assert config.head_dim == 32
    assert config.to_hf()["eos_token_id"] == eos
    assert DecoderConfig.from_hf(json.loads(json.dumps(config.to_hf())), "again") == config


def test_transformers_reads_it_back():
    transformers = pytest.importorskip("transformers")
    config = DecoderConfig.from_hf(QWEN25, "config.json")
    theirs = transformers.Qwen2Config(**config.to_hf())
    assert DecoderConfig.from_hf(theirs.to_dict(), "theirs") == config


@pytest.mark.parametrize(
    "change, words",
    [
        ({"model_type": "gpt2"}, ["model_type", "'gpt2'", "qwen2"]),
        ({"hidden_act": "gelu"}, ["hidden_act", "'gelu'", "silu"]),
        ({"use_sliding_window": True}, ["use_sliding_window", "false"]),
        (
            {"layer_types": ["full_attention", "sliding_attention"]},
            ["layer_types", "full_attention"],
        ),
        ({"rope_scaling": {"type": "yarn", "factor": 4.0}}, ["rope_scaling", "'yarn'", "default"]),
        ({"rope_parameters": {"rope_type": "llama3"}}, ["rope_parameters", "'llama3'", "default"]),
        ({"quantization_config": {"bits": 4}}, ["quantization_config", "unquantized"]),
        ({"num_key_value_heads": 3}, ["num_kv_heads = 3", "14"]),
        ({"head_dim": 7}, ["head_dim = 7"]),
    ],
)
def test_what_is_not_computed_is_refused(change, words):
    with pytest.raises(UserError) as error:
        DecoderConfig.from_hf(QWEN25 | change, "some/config.json")
    assert all(word in str(error.value) for word in ["some/config.json", *words])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["model_type", "vocab_size", "num_attention_heads", "rope_theta"])
def test_missing_key_is_named(key):
    with pytest.raises(UserError, match=f"some/config.json.*{key}"):
        DecoderConfig.from_hf(without(key), "some/config.json")


@pytest.mark.parametrize("content, word", [(None, "not exist"), ("{", "JSON"), ("[]", "list")])
def test_bad_config_file_is_named(content, word, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"{tmp_path}/config.json.*{word}"):
        DecoderConfig.from_directory(tmp_path)
