"""Safetensors directories: round trips, what transformers makes of them, and damage."""

import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict
from safetensors.numpy import load_file, save_file

from riskpo_jax.errors import UserError
from riskpo_jax.models import hf
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.partitioning import abstract_params, param_shardings
from riskpo_jax.models.safetensors_files import INDEX, WEIGHTS
from riskpo_jax.sharding import make_mesh


@pytest.fixture
def config(make_config):
    return make_config(eos_token_ids=(1, 2))


@pytest.fixture
def params(config, random_params):
    return random_params(config)


@pytest.fixture
def saved(tmp_path, params, config):
    hf.save_pretrained(tmp_path / "model", params, config)
    return tmp_path / "model"


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def rewrite(directory, change):
    """Applies `change` to the dictionary of tensors in the file."""
    tensors = load_file(directory / WEIGHTS)
    change(tensors)
    save_file(tensors, directory / WEIGHTS)


def shard(directory):
    """Splits the single file into two and an index, as large checkpoints are."""
    tensors = load_file(directory / WEIGHTS)
    (directory / WEIGHTS).unlink()
    names = sorted(tensors)
    shards = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, part in shards.items():
        save_file({name: tensors[name] for name in part}, directory / file)
    weight_map = {name: file for file, part in shards.items() for name in part}
    (directory / INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize("tie", [False, True])
def test_load_gives_what_was_saved(tie, tmp_path, make_config, random_params):
    config = make_config(tie_embeddings=tie)
    params = random_params(config)
    hf.save_pretrained(tmp_path / "a", params, config)
    assert DecoderConfig.from_directory(tmp_path / "a") == config
    loaded = hf.load_params(tmp_path / "a", config)
    assert_same(loaded, params)
    hf.save_pretrained(tmp_path / "b", loaded, config)
    assert (tmp_path / "a" / WEIGHTS).read_bytes() == (tmp_path / "b" / WEIGHTS).read_bytes()


@pytest.mark.parametrize("changes", [{}, {"tie_embeddings": True}, {"qkv_bias": False}])
def test_the_table_covers_exactly_the_parameters(changes, make_config):
    config = make_config(**changes)
    flat = flatten_dict(nn.unbox(abstract_params(Decoder(config))))
    shapes = {path: leaf.shape for path, leaf in flat.items()}
    assert {leaf.path: leaf.shape for leaf in hf.leaves(config)} == shapes


def test_load_in_bfloat16_is_the_float32_rounded(saved, params, config):
    loaded = hf.load_params(saved, config, jnp.bfloat16)
    assert_same(loaded, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_files(dtype, tmp_path, params, config):
    hf.save_pretrained(tmp_path / "half", params, config, dtype=dtype)
    name = jnp.dtype(dtype).name
    assert json.loads((tmp_path / "half" / "config.json").read_text())["dtype"] == name
    loaded = hf.load_params(tmp_path / "half", config)
    assert_same(loaded, jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), params))


def test_sharded_files(saved, params, config):
    shard(saved)
    assert_same(hf.load_params(saved, config), params)


def test_load_into_shardings(saved, params, config):
    shardings = param_shardings(abstract_params(Decoder(config)), make_mesh())
    loaded = hf.load_params(saved, config, shardings=shardings)
    assert_same(loaded, params)
    assert jax.tree.map(lambda x: x.sharding, loaded) == shardings


def test_saving_again_replaces_the_model_and_keeps_the_tokenizer(saved, params, config):
    (saved / "tokenizer.json").write_text("{}")
    twice = jax.tree.map(lambda x: 2 * x, params)
    hf.save_pretrained(saved, twice, config, generation_config={"eos_token_id": [1, 2]})
    assert_same(hf.load_params(saved, config), twice)
    names = {file.name for file in saved.iterdir()}
    assert names == {"config.json", "generation_config.json", WEIGHTS, "tokenizer.json"}
    assert [file.name for file in saved.parent.iterdir()] == ["model"]


def test_a_failed_save_leaves_the_old_model(saved, params, config, monkeypatch):
    def full_disk(*args, **kwargs):
        raise OSError("no space left on device")

    monkeypatch.setattr(hf, "save_file", full_disk)
    with pytest.raises(OSError):
        hf.save_pretrained(saved, jax.tree.map(jnp.zeros_like, params), config)
    assert_same(hf.load_params(saved, config), params)
    assert [file.name for file in saved.parent.iterdir()] == ["model"]


@pytest.mark.parametrize("tie", [False, True])
def test_transformers_reads_what_we_save(tie, tmp_path, make_config, random_params, full_logits):
    torch = pytest.importorskip("torch", reason="transformers needs PyTorch to compute Qwen2")
    from transformers import AutoModelForCausalLM

    config = make_config(tie_embeddings=tie)
    params = random_params(config)
    hf.save_pretrained(tmp_path / "m", params, config, generation_config={"do_sample": False})
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path / "m", dtype=torch.float32, output_loading_info=True
    )
    assert not any(report.values()), report
    tokens = np.random.default_rng(0).integers(0, 37, (2, 12))
    with torch.no_grad():
        expected = theirs(torch.tensor(tokens)).logits.numpy()
    ours = full_logits(Decoder(config), params, tokens, np.ones((2, 12), bool))
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_known_extras_are_ignored(saved, params, config):
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": np.ones(4, np.float32)}
    rewrite(saved, lambda tensors: tensors.update(extra))
    assert_same(hf.load_params(saved, config), params)


def test_copy_of_a_tied_head_is_ignored(tmp_path, make_config, random_params):
    config = make_config(tie_embeddings=True)
    params = random_params(config)
    hf.save_pretrained(tmp_path / "m", params, config)
    head = {"lm_head.weight": np.asarray(params["embedding"])}
    rewrite(tmp_path / "m", lambda tensors: tensors.update(head))
    assert_same(hf.load_params(tmp_path / "m", config), params)


def test_every_tensor_that_does_not_match_is_named(saved, config):
    def damage(tensors):
        del tensors["lm_head.weight"], tensors["model.layers.2.mlp.up_proj.weight"]
        tensors["model.norm.weight"] = np.ones(5, np.float32)
        tensors["vision.weight"] = np.ones(1, np.float32)

    rewrite(saved, damage)
    with pytest.raises(UserError) as error:
        hf.load_params(saved, config)
    message = str(error.value)
    assert "missing: lm_head.weight, model.layers.2.mlp.up_proj.weight" in message
    assert "unexpected: vision.weight" in message
    assert "wrong shape: model.norm.weight (5,), not (24,)" in message
    assert str(saved / WEIGHTS) in message and "\n" not in message


def cut_short(directory):
    data = (directory / "a.safetensors").read_bytes()
    (directory / "a.safetensors").write_bytes(data[:-100])


def lose_a_tensor(directory):
    tensors = load_file(directory / "a.safetensors")
    tensors.pop("lm_head.weight")
    save_file(tensors, directory / "a.safetensors")


@pytest.mark.parametrize(
    "damage, words",
    [
        (cut_short, ["a.safetensors", "cut short", "copy"]),
        (lambda d: (d / "a.safetensors").unlink(), ["a.safetensors", INDEX, "copy"]),
        (lose_a_tensor, ["a.safetensors", "lm_head.weight", INDEX]),
        (lambda d: (d / INDEX).write_text("{"), [INDEX, "copy"]),
    ],
    ids=["cut_short", "absent_shard", "absent_tensor", "bad_index"],
)
def test_damaged_shards_are_named(damage, words, saved, config):
    shard(saved)
    damage(saved)
    with pytest.raises(UserError) as error:
        hf.load_params(saved, config)
    assert all(word in str(error.value) for word in [str(saved), *words])
    assert "\n" not in str(error.value)


def test_directories_without_safetensors(tmp_path, config):
    with pytest.raises(UserError, match="nowhere does not exist"):
        hf.load_params(tmp_path / "nowhere", config)
    with pytest.raises(UserError, match=f"{tmp_path} has no {WEIGHTS}"):
        hf.load_params(tmp_path, config)
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(UserError, match="pytorch_model.bin.*safe_serialization"):
        hf.load_params(tmp_path, config)
