"""Adapters in PEFT's format: PEFT computes with our files what we compute, and we with its."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from riskpo_jax.errors import UserError
from riskpo_jax.models import hf, peft
from riskpo_jax.models import lora as lora_lib
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.lora import MATRICES, Lora
from riskpo_jax.models.partitioning import abstract_params, param_shardings
from riskpo_jax.sharding import make_mesh

TOKENS = np.random.default_rng(0).integers(0, 37, (2, 11))
VALID = np.ones(TOKENS.shape, bool)
LORA = Lora(4, 6.0, ("q", "o", "down"))


@pytest.fixture
def config(make_config):
    return make_config()


@pytest.fixture
def adapters(config, random_adapters):
    return random_adapters(config, LORA)


@pytest.fixture
def saved(tmp_path, adapters, config):
    peft.save_adapters(tmp_path / "adapters", adapters, config, LORA, "models/base")
    return tmp_path / "adapters"


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_close(ours, theirs):
    """Within 1e-5 of the largest logit: the two sum in different orders."""
    assert np.abs(ours - theirs).max() <= 1e-5 * np.abs(theirs).max()


def change_settings(directory, **changes):
    settings = json.loads((directory / peft.CONFIG).read_text()) | changes
    (directory / peft.CONFIG).write_text(json.dumps(settings))


def change_tensors(directory, change):
    tensors = load_file(directory / peft.WEIGHTS)
    save_file(change(tensors), directory / peft.WEIGHTS)


def test_load_gives_what_was_saved(saved, adapters, config):
    assert peft.read_lora(saved) == LORA
    loaded = peft.load_adapters(saved, config, LORA)
    assert_same(loaded, adapters)
    assert {x.dtype for x in jax.tree.leaves(loaded)} == {jnp.dtype(jnp.float32)}


def test_load_into_shardings(saved, adapters, config):
    boxed = abstract_params(Decoder(config, lora=LORA))
    _, shardings = lora_lib.split(param_shardings(boxed, make_mesh()))
    loaded = peft.load_adapters(saved, config, LORA, shardings)
    assert_same(loaded, adapters)
    assert jax.tree.map(lambda x: x.sharding, loaded) == shardings


def test_the_file_has_a_matrix_of_each_side_for_each_layer(saved, adapters):
    """lora_A is [rank, inputs] and lora_B [outputs, rank]: y = scale * (x A^T) B^T."""
    tensors = load_file(saved / peft.WEIGHTS)
    name = "base_model.model.model.layers.2.self_attn.o_proj.lora_{}.weight"
    a, b = (adapters["layers"]["attention"][f"o_lora_{end}"][2] for end in "ab")
    heads = np.random.default_rng(0).standard_normal((4, 8), np.float32)
    ours = np.tensordot(heads, a, 2) @ b
    theirs = heads.reshape(-1) @ tensors[name.format("A")].T @ tensors[name.format("B")].T
    np.testing.assert_allclose(ours, theirs, rtol=1e-5)
    assert len(tensors) == 3 * 3 * 2 and tensors[name.format("A")].shape == (4, 32)


def test_saving_again_replaces_the_folder(saved, config, random_adapters):
    twice = random_adapters(config, Lora(2, 1.5), seed=2)
    peft.save_adapters(saved, twice, config, Lora(2, 1.5), "base")
    assert peft.read_lora(saved) == Lora(2, 1.5, MATRICES)
    assert_same(peft.load_adapters(saved, config, Lora(2, 1.5)), twice)
    assert [file.name for file in saved.parent.iterdir()] == ["adapters"]


def test_half_precision_adapters_are_widened(saved, adapters, config):
    change_tensors(saved, lambda t: {k: v.astype(jnp.bfloat16) for k, v in t.items()})
    rounded = jax.tree.map(lambda x: x.astype(jnp.bfloat16).astype(np.float32), adapters)
    assert_same(peft.load_adapters(saved, config, LORA), rounded)


def test_rank_stabilised_scaling_is_read_as_its_alpha(saved):
    change_settings(saved, use_rslora=True)
    assert peft.read_lora(saved).scale == pytest.approx(6.0 / 4**0.5)


@pytest.mark.parametrize(
    "other",
    [Lora(8, 6.0, LORA.matrices), Lora(4, 8.0, LORA.matrices), Lora(4, 6.0, ("q", "k", "o"))],
)
def test_other_settings_are_told_the_flags_to_give(other, saved, config):
    with pytest.raises(UserError) as error:
        peft.load_adapters(saved, config, other)
    flags = "--lora.rank=4 --lora.alpha=6.0 --lora.matrices=q_proj,o_proj,down_proj"
    assert flags in str(error.value) and str(saved) in str(error.value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("peft_type", "PROMPT_TUNING"),
        ("task_type", "SEQ_CLS"),
        ("bias", "lora_only"),
        ("lora_bias", True),
        ("use_dora", True),
        ("modules_to_save", ["lm_head"]),
        ("rank_pattern", {"q_proj": 8}),
        ("alpha_pattern", {"q_proj": 8}),
        ("layers_to_transform", [1]),
        ("fan_in_fan_out", True),
        ("init_lora_weights", "pissa"),
        ("alora_invocation_tokens", [7]),
        ("invented_next_year", {"x": 1}),
        ("lora_alpha", "high"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(key, value, saved):
    change_settings(saved, **{key: value})
    with pytest.raises(UserError) as error:
        peft.read_lora(saved)
    assert f"{saved / peft.CONFIG}: {key} = {value!r}" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("key", ["peft_type", "r", "lora_alpha"])
def test_a_missing_key_is_named(key, saved):
    change_settings(saved, **{key: None})
    with pytest.raises(UserError, match=f"{peft.CONFIG}: .*{key}"):
        peft.read_lora(saved)


def test_settings_without_effect_are_accepted(saved):
    change_settings(
        saved, lora_dropout=0.1, init_lora_weights="gaussian", base_model_name_or_path=None,
        target_modules="all-linear", qalora_group_size=16, megatron_core="megatron.core",
        modules_to_save=None, rank_pattern={}, layers_to_transform=None, task_type=None,
    )  # fmt: skip
    assert peft.read_lora(saved) == LORA


def test_every_tensor_that_does_not_fit_is_named(saved, config):
    prefix = "base_model.model.model.layers.1."

    def damage(tensors):
        del tensors[prefix + "self_attn.q_proj.lora_A.weight"]
        tensors[prefix + "mlp.down_proj.lora_B.weight"] = np.ones((5, 4), np.float32)
        return tensors | {"base_model.model.lm_head.lora_A.weight": np.ones((4, 24), np.float32)}

    change_tensors(saved, damage)
    with pytest.raises(UserError) as error:
        peft.load_adapters(saved, config, LORA)
    message = str(error.value)
    assert f"missing: {prefix}self_attn.q_proj.lora_A.weight" in message
    assert "unexpected: base_model.model.lm_head.lora_A.weight" in message
    assert f"wrong shape: {prefix}mlp.down_proj.lora_B.weight (5, 4), not (24, 4)" in message
    assert str(saved / peft.WEIGHTS) in message and "\n" not in message


def cut_short(directory):
    data = (directory / peft.WEIGHTS).read_bytes()
    (directory / peft.WEIGHTS).write_bytes(data[:-100])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda d: (d / peft.CONFIG).unlink(), [peft.CONFIG, "does not exist"]),
        (lambda d: (d / peft.CONFIG).write_text("{"), [peft.CONFIG, "not valid JSON"]),
        (lambda d: (d / peft.CONFIG).write_text("[]"), [peft.CONFIG, "JSON object"]),
        (lambda d: (d / peft.WEIGHTS).unlink(), [peft.WEIGHTS, "does not exist"]),
        (
            lambda d: (d / peft.WEIGHTS).rename(d / "adapter_model.bin"),
            ["adapter_model.bin is a pickle", "safe_serialization"],
        ),
        (cut_short, [peft.WEIGHTS, "cut short"]),
    ],
    ids=["no_config", "bad_config", "config_a_list", "no_weights", "pickle", "cut_short"],
)
def test_damaged_directories_are_named(damage, words, saved, config):
    damage(saved)
    with pytest.raises(UserError) as error:
        peft.load_adapters(saved, config, LORA)
    assert all(word in str(error.value) for word in [str(saved), *words])
    assert "\n" not in str(error.value)


# What follows compares with PEFT itself.


@pytest.fixture
def theirs(tmp_path):
    """theirs(config, params) -> the model as transformers has it."""
    torch = pytest.importorskip("torch", reason="PEFT computes in PyTorch")
    pytest.importorskip("peft")
    from transformers import AutoModelForCausalLM

    def theirs(config, params):
        hf.save_pretrained(tmp_path / "base", params, config)
        return AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)

    return theirs


def torch_logits(model):
    import torch

    with torch.no_grad():
        return model.eval()(torch.tensor(TOKENS)).logits.numpy()


def test_peft_adapters_give_peft_logits(
    family_config, tmp_path, theirs, random_params, full_logits
):
    config, base = family_config, random_params(family_config)
    model = theirs(config, base)
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(0)
    settings = LoraConfig(
        r=4, lora_alpha=6, target_modules="all-linear", task_type="CAUSAL_LM",
        use_rslora=config.model_type == "qwen3",
    )  # fmt: skip
    model = get_peft_model(model, settings)
    before = torch_logits(model)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # 0 at the start
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(tmp_path / "theirs")

    lora = peft.read_lora(tmp_path / "theirs")
    adapters = peft.load_adapters(tmp_path / "theirs", config, lora)
    params = lora_lib.join(base, adapters)
    ours = full_logits(Decoder(config, lora=lora), params, TOKENS, VALID)
    assert_close(ours, torch_logits(model))
    assert np.abs(ours - before).max() > 0.1 * np.abs(before).max()


def test_peft_reads_what_we_save(
    family_config, tmp_path, theirs, random_params, random_adapters, full_logits
):
    config, lora = family_config, Lora(4, 6.5, ("k", "v", "o", "gate", "down"))
    base, adapters = random_params(config), random_adapters(config, lora)
    peft.save_adapters(tmp_path / "ours", adapters, config, lora, str(tmp_path / "base"))
    model = theirs(config, base)
    from peft import PeftModel

    model = PeftModel.from_pretrained(model, tmp_path / "ours")
    params = lora_lib.join(base, adapters)
    expected = full_logits(Decoder(config, lora=lora), params, TOKENS, VALID)
    assert_close(torch_logits(model), expected)
    merged = full_logits(Decoder(config), lora_lib.merge(base, adapters, lora), TOKENS, VALID)
    assert_close(torch_logits(model.merge_and_unload()), merged)
