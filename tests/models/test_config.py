"""config.json in and out."""

import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.known import known
from riskpo_jax.models.rope import Llama3Scaling

sizes = st.integers(1, 10**5)
ids = st.integers(0, 10**5)
factors = st.floats(0.5, 64, allow_nan=False)


@st.composite
def scalings(draw) -> Llama3Scaling:
    low = draw(factors)
    return Llama3Scaling(draw(factors), low, low + draw(factors), draw(sizes))


@st.composite
def configs(draw) -> DecoderConfig:
    """Any config that one of the families can express."""
    model_type = draw(st.sampled_from(["qwen2", "qwen3", "llama"]))
    attention_bias = model_type != "qwen2" and draw(st.booleans())
    kv_heads, heads_per_kv = draw(st.integers(1, 16)), draw(st.integers(1, 16))
    num_heads, vocab_size = kv_heads * heads_per_kv, draw(sizes)
    return DecoderConfig(
        vocab_size=vocab_size,
        hidden_size=num_heads * draw(st.integers(1, 64)),
        intermediate_size=draw(sizes),
        num_layers=draw(st.integers(1, 100)),
        num_heads=num_heads,
        num_kv_heads=kv_heads,
        head_dim=2 * draw(st.integers(1, 128)),
        rope_theta=draw(st.floats(1, 1e8)),
        rope_scaling=draw(st.none() | scalings()),
        rms_norm_eps=draw(st.floats(1e-8, 1e-2)),
        tie_embeddings=draw(st.booleans()),
        qkv_bias=model_type == "qwen2" or attention_bias,
        o_bias=attention_bias,
        mlp_bias=model_type == "llama" and draw(st.booleans()),
        qk_norm=model_type == "qwen3",
        max_position_embeddings=draw(sizes),
        initializer_range=draw(st.floats(0.001, 0.5)),
        model_type=model_type,
        eos_token_ids=tuple(draw(st.lists(st.integers(0, vocab_size - 1), max_size=3))),
        bos_token_id=draw(st.none() | ids),
        pad_token_id=draw(st.none() | ids),
    )


@given(configs())
def test_round_trip(config):
    assert DecoderConfig.from_hf(json.loads(json.dumps(config.to_hf())), "again") == config


@settings(max_examples=30, deadline=None)
@given(configs())
def test_transformers_reads_the_same(config):
    transformers = pytest.importorskip("transformers")
    mapping = json.loads(json.dumps(config.to_hf()))
    theirs = transformers.AutoConfig.for_model(**mapping)
    assert DecoderConfig.from_hf(theirs.to_dict(), "theirs") == config


@pytest.mark.parametrize(
    "name, change",
    [
        ("Qwen2.5-1.5B", {"qkv_bias": False}),
        ("Qwen2.5-1.5B", {"o_bias": True}),
        ("Qwen2.5-1.5B", {"qk_norm": True}),
        ("Qwen3-4B", {"qk_norm": False}),
        ("Qwen3-4B", {"qkv_bias": True}),
        ("Qwen3-4B", {"mlp_bias": True}),
        ("Llama-3.1-8B", {"qkv_bias": True}),
        ("Llama-3.1-8B", {"qk_norm": True}),
    ],
)
def test_what_a_family_cannot_express_is_not_written(name, change):
    with pytest.raises(UserError, match="ForCausalLM has the options"):
        dataclasses.replace(known(name), **change).to_hf()


@pytest.mark.parametrize("content, word", [(None, "not exist"), ("{", "JSON"), ("[]", "list")])
def test_bad_config_file_is_named(content, word, tmp_path):
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    with pytest.raises(UserError, match=f"{tmp_path}/config.json.*{word}"):
        DecoderConfig.from_directory(tmp_path)


def test_a_folder_in_place_of_the_file_is_named(tmp_path):
    (tmp_path / "config.json").mkdir()
    with pytest.raises(UserError, match=f"{tmp_path}/config.json cannot be read .Is a directory"):
        DecoderConfig.from_directory(tmp_path)


def test_a_file_in_place_of_the_directory_is_named(tmp_path):
    (tmp_path / "model.safetensors").write_text("")
    with pytest.raises(UserError, match="model.safetensors/config.json does not exist; give a"):
        DecoderConfig.from_directory(tmp_path / "model.safetensors")
