"""Published config.json files of each family, as transformers 4 and 5 write them, and what is refused."""

import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.known import known

QWEN25_1_5B = {
    "architectures": ["Qwen2ForCausalLM"], "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 1536, "initializer_range": 0.02,
    "intermediate_size": 8960, "max_position_embeddings": 131072, "max_window_layers": 28,
    "model_type": "qwen2", "num_attention_heads": 12, "num_hidden_layers": 28,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0,
    "sliding_window": 131072, "tie_word_embeddings": True, "torch_dtype": "bfloat16",
    "transformers_version": "4.40.1", "use_cache": True, "use_mrope": False,
    "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
R1_DISTILL_7B = QWEN25_1_5B | {
    "bos_token_id": 151646, "hidden_size": 3584, "intermediate_size": 18944,
    "num_attention_heads": 28, "num_key_value_heads": 4, "rope_theta": 10000,
    "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 152064,
}  # fmt: skip
QWEN3_4B = {
    "architectures": ["Qwen3ForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 151643, "eos_token_id": 151645, "head_dim": 128, "hidden_act": "silu",
    "hidden_size": 2560, "initializer_range": 0.02, "intermediate_size": 9728,
    "max_position_embeddings": 40960, "max_window_layers": 36, "model_type": "qwen3",
    "num_attention_heads": 32, "num_hidden_layers": 36, "num_key_value_heads": 8,
    "rms_norm_eps": 1e-06, "rope_scaling": None, "rope_theta": 1000000, "sliding_window": None,
    "tie_word_embeddings": True, "torch_dtype": "bfloat16", "use_sliding_window": False,
    "vocab_size": 151936,
}  # fmt: skip
LLAMA31_8B = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 128000, "eos_token_id": 128001, "hidden_act": "silu", "hidden_size": 4096,
    "initializer_range": 0.02, "intermediate_size": 14336, "max_position_embeddings": 131072,
    "mlp_bias": False, "model_type": "llama", "num_attention_heads": 32, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {
        "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192, "rope_type": "llama3",
    },
    "rope_theta": 500000.0, "tie_word_embeddings": False, "vocab_size": 128256,
}  # fmt: skip
PUBLISHED = {
    "Qwen2.5-1.5B": QWEN25_1_5B,
    "R1-Distill-Qwen-7B": R1_DISTILL_7B,
    "Qwen3-4B": QWEN3_4B,
    "Llama-3.1-8B": LLAMA31_8B,
}


def in_notation_5(mapping: dict) -> dict:
    """RoPE in one object, a list of layer types, and `dtype`: as transformers 5 saves the same."""
    rope = {"rope_type": "default"} | (mapping.get("rope_scaling") or {})
    moved = {"rope_theta", "rope_scaling", "torch_dtype"}
    layers = ["full_attention"] * mapping["num_hidden_layers"]
    return {key: value for key, value in mapping.items() if key not in moved} | {
        "rope_parameters": rope | {"rope_theta": mapping["rope_theta"]},
        "layer_types": layers,
        "dtype": "bfloat16",
    }


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("notation", [dict, in_notation_5])
def test_published_configs(name, notation):
    assert DecoderConfig.from_hf(notation(PUBLISHED[name]), "config.json") == known(name)


def test_llama_without_head_dim_and_qwen3_without():
    """Llama divides the width by the heads; Qwen3's default is 128 whatever the width is."""
    without = {key: value for key, value in QWEN3_4B.items() if key != "head_dim"}
    assert DecoderConfig.from_hf(without, "config.json").head_dim == 128 != 2560 // 32
    assert DecoderConfig.from_hf(LLAMA31_8B | {"head_dim": None}, "config.json").head_dim == 128


@pytest.mark.parametrize(
    "mapping, keys, biases",
    [
        (QWEN25_1_5B, {"attention_bias": False, "mlp_bias": True}, (True, False, False)),
        (QWEN3_4B, {"attention_bias": True, "mlp_bias": True}, (True, True, False)),
        (LLAMA31_8B, {"attention_bias": True}, (True, True, False)),
        (LLAMA31_8B, {"mlp_bias": True}, (False, False, True)),
    ],
)
def test_each_family_reads_its_own_bias_keys(mapping, keys, biases):
    config = DecoderConfig.from_hf(mapping | keys, "config.json")
    assert (config.qkv_bias, config.o_bias, config.mlp_bias) == biases


def refusal(mapping: dict) -> str:
    with pytest.raises(UserError) as error:
        DecoderConfig.from_hf(mapping, "some/config.json")
    message = str(error.value)
    assert message.startswith("some/config.json: ") and "\n" not in message
    assert message.count("some/config.json") == 1
    return message


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize(
    "change, words",
    [
        ({"model_type": "qwen3_moe"}, ["model_type = 'qwen3_moe'", "qwen2, qwen3, llama"]),
        ({"model_type": "mixtral"}, ["model_type = 'mixtral'"]),
        ({"architectures": ["Qwen2ForRewardModel"]}, ["architectures", "ForRewardModel", "Causal"]),
        ({"use_sliding_window": True}, ["use_sliding_window = True", "full attention"]),
        ({"layer_types": ["full_attention", "sliding_attention"]}, ["layer_types", "'sliding_att"]),
        ({"hidden_act": "gelu"}, ["hidden_act = 'gelu'", "silu"]),
        ({"attention_dropout": 0.1}, ["attention_dropout = 0.1"]),
        ({"quantization_config": {"bits": 4}}, ["quantization_config", "unquantized"]),
        ({"partial_rotary_factor": 0.5}, ["partial_rotary_factor = 0.5", "full RoPE"]),
        ({"pretraining_tp": 2}, ["pretraining_tp = 2"]),
        ({"num_experts": 8}, ["num_experts = 8", "dense"]),
        ({"num_local_experts": 8}, ["num_local_experts = 8", "dense"]),
        ({"num_experts_per_tok": 2}, ["num_experts_per_tok = 2", "dense"]),
        ({"n_routed_experts": 64}, ["n_routed_experts = 64", "dense"]),
        ({"moe_intermediate_size": 768}, ["moe_intermediate_size = 768", "dense"]),
        ({"attn_logit_softcapping": 50.0}, ["attn_logit_softcapping = 50.0", "no capping"]),
        ({"final_logit_softcapping": 30.0}, ["final_logit_softcapping = 30.0", "no capping"]),
        ({"attention_multiplier": 1.0}, ["attention_multiplier = 1.0", "multipliers"]),
        ({"query_pre_attn_scalar": 256}, ["query_pre_attn_scalar = 256", "multipliers"]),
        ({"embedding_multiplier": 12.0}, ["embedding_multiplier = 12.0", "multipliers"]),
        ({"residual_multiplier": 0.22}, ["residual_multiplier = 0.22", "multipliers"]),
        ({"logits_scaling": 8.0}, ["logits_scaling = 8.0", "multipliers"]),
        ({"num_key_value_heads": 5}, ["num_kv_heads = 5", "does not divide"]),
        ({"head_dim": 7}, ["head_dim = 7", "odd"]),
    ],
    ids=lambda x: next(iter(x)) + str(next(iter(x.values()))) if isinstance(x, dict) else "",
)
def test_what_is_not_computed_is_refused(name, change, words):
    message = refusal(PUBLISHED[name] | change)
    assert all(word in message for word in words), message


@pytest.mark.parametrize("kind", ["yarn", "dynamic", "linear", "longrope"])
@pytest.mark.parametrize("where", ["rope_scaling", "rope_parameters"])
@pytest.mark.parametrize("key", ["type", "rope_type"])
def test_other_rope_types_are_refused(kind, where, key):
    message = refusal(QWEN3_4B | {where: {key: kind, "factor": 4.0, "rope_theta": 1e6}})
    assert f"{where}.rope_type = {kind!r}" in message and "default, llama3" in message


@pytest.mark.parametrize(
    "rope, words",
    [
        ({"rope_scaling": {"rope_type": "llama3"}}, ["missing key 'rope_scaling.factor'"]),
        (
            {
                "rope_scaling": LLAMA31_8B["rope_scaling"]
                | {"original_max_position_embeddings": None}
            },
            ["missing key 'rope_scaling.original_max_position_embeddings'"],
        ),
        (
            {"rope_scaling": LLAMA31_8B["rope_scaling"] | {"factor": "8"}},
            ["rope_scaling.factor = '8' must be a number"],
        ),
        (
            {"rope_scaling": LLAMA31_8B["rope_scaling"] | {"high_freq_factor": 1.0}},
            ["low_freq_factor < high_freq_factor"],
        ),
        ({"rope_scaling": {"factor": 2.0}}, ["rope_scaling.rope_type = None"]),
        ({"rope_scaling": "llama3"}, ["rope_scaling = 'llama3' must be an object"]),
        ({"rope_parameters": {"rope_theta": 1e4}}, ["rope_theta has several values"]),
        (
            {"rope_parameters": {"partial_rotary_factor": 0.5}},
            ["rope_parameters.partial_rotary_factor = 0.5"],
        ),
        ({"rope_theta": None}, ["missing key 'rope_theta'"]),
        ({"rope_theta": 0}, ["rope_theta = 0.0 must be positive and finite"]),
        ({"rope_theta": float("inf")}, ["rope_theta = inf must be positive and finite"]),
        ({"rope_theta": float("nan")}, ["rope_theta = nan must be positive and finite"]),
        (
            {"rope_scaling": LLAMA31_8B["rope_scaling"] | {"factor": float("inf")}},
            ["rope_scaling.factor = inf must be positive and finite"],
        ),
    ],
)
def test_rope_that_makes_no_sense_is_refused(rope, words):
    message = refusal(LLAMA31_8B | rope)
    assert all(word in message for word in words), message


REQUIRED = (
    "model_type", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "rms_norm_eps", "max_position_embeddings",
)  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
@pytest.mark.parametrize("key", REQUIRED)
def test_a_missing_key_is_named(name, key):
    mapping = {other: value for other, value in PUBLISHED[name].items() if other != key}
    assert f"missing key '{key}'" in refusal(mapping)
    assert refusal(mapping | {key: None}) == refusal(mapping)


@pytest.mark.parametrize(
    "key, value, words",
    [
        ("num_hidden_layers", "24", "must be an integer"),
        ("num_hidden_layers", 24.0, "must be an integer"),
        ("num_hidden_layers", True, "must be an integer"),
        ("num_hidden_layers", 0, "must be positive"),
        ("num_attention_heads", 0, "must be positive"),
        ("num_key_value_heads", 0, "must be positive"),
        ("head_dim", -2, "must be positive"),
        ("vocab_size", [1], "must be an integer"),
        ("rms_norm_eps", "1e-6", "must be a number"),
        ("rms_norm_eps", -1.0, "must be positive and finite"),
        ("rms_norm_eps", float("inf"), "must be positive and finite"),
        ("rms_norm_eps", float("nan"), "must be positive and finite"),
        ("rope_theta", "1e6", "must be a number"),
        ("tie_word_embeddings", "false", "must be true or false"),
        ("attention_bias", 1, "must be true or false"),
        ("eos_token_id", "</s>", "must be a token id"),
        ("eos_token_id", [1, "2"], "must be a token id"),
        ("eos_token_id", 128256, "must be a token id"),
        ("eos_token_id", [1, -1], "must be a token id"),
        ("bos_token_id", [1], "must be an integer"),
        ("model_type", ["llama"], "must be a string"),
        ("architectures", "LlamaForCausalLM", "must be a list"),
    ],
)
def test_a_value_of_the_wrong_kind_is_named(key, value, words):
    message = refusal(LLAMA31_8B | {key: value})
    assert f"{key} = {value!r} {words}" in message
