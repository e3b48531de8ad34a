"""Hugging Face directories: round trips, what transformers makes of them, and damage."""

import json
import re

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

FAMILIES = {
    "qwen2": {},
    "qwen2_tied": {"tie_embeddings": True},
    "qwen3": {"model_type": "qwen3", "qk_norm": True, "qkv_bias": False},
    "qwen3_biases_tied": {
        "model_type": "qwen3", "qk_norm": True, "o_bias": True, "tie_embeddings": True
    },
    "llama_tied": {"model_type": "llama", "qkv_bias": False, "tie_embeddings": True},
    "llama_biases": {"model_type": "llama", "o_bias": True, "mlp_bias": True},
}  # fmt: skip
MOST = 8_000  # bytes a shard: less than all, more than any tensor


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


@pytest.mark.parametrize("family", FAMILIES)
def test_load_gives_what_was_saved(family, tmp_path, make_config, random_params):
    """In one file or in shards, float32 or bfloat16, and saving it again gives the same bytes."""
    config = make_config(**FAMILIES[family])
    params = random_params(config)
    hf.save_pretrained(tmp_path / "a", params, config)
    assert DecoderConfig.from_directory(tmp_path / "a") == config
    assert_same(hf.load_params(tmp_path / "a", config), params)
    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), params)
    hf.save_pretrained(tmp_path / "b", half, config, max_shard_bytes=MOST)
    loaded = hf.load_params(tmp_path / "b", config, jnp.bfloat16)
    assert_same(loaded, half)
    hf.save_pretrained(tmp_path / "c", loaded, config, max_shard_bytes=MOST)
    names = sorted(file.name for file in (tmp_path / "b").iterdir())
    assert names == sorted(file.name for file in (tmp_path / "c").iterdir()) and len(names) > 3
    for name in names:
        assert (tmp_path / "b" / name).read_bytes() == (tmp_path / "c" / name).read_bytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_the_table_covers_exactly_the_parameters(family, make_config):
    config = make_config(**FAMILIES[family])
    flat = flatten_dict(nn.unbox(abstract_params(Decoder(config))))
    shapes = {path: leaf.shape for path, leaf in flat.items()}
    assert {leaf.path: leaf.shape for leaf in hf.leaves(config)} == shapes


def test_load_in_bfloat16_is_the_float32_rounded(saved, params, config):
    loaded = hf.load_params(saved, config, jnp.bfloat16)
    assert_same(loaded, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params))


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_files(dtype, tmp_path, params, config):
    hf.save_pretrained(tmp_path / "half", params, config, dtype=dtype)
    written = json.loads((tmp_path / "half" / "config.json").read_text())
    name = jnp.dtype(dtype).name  # transformers 5 writes the first, what is older reads the second
    assert written["dtype"] == written["torch_dtype"] == name
    loaded = hf.load_params(tmp_path / "half", config)
    assert_same(loaded, jax.tree.map(lambda x: x.astype(dtype).astype(jnp.float32), params))


def test_what_float16_cannot_hold_is_named(tmp_path, params, config):
    """65520 is the least that rounds to infinity, also where it did so before it came here."""
    up = params["layers"]["mlp"]["up"]

    def save(folder, value, dtype=np.float32):
        changed = up.at[1, 2, 3].set(value).astype(dtype)
        mlp = params["layers"]["mlp"] | {"up": changed}
        tree = params | {"layers": params["layers"] | {"mlp": mlp}}
        hf.save_pretrained(tmp_path / folder, tree, config, jnp.float16)

    save("largest", 65519.0)
    for folder, value, dtype in [("f32", -65520.0, np.float32), ("f16", np.inf, np.float16)]:
        with pytest.raises(UserError, match="layers.1.mlp.up_proj.weight.*float16.*bfloat16"):
            save(folder, value, dtype)


def test_sharded_files(saved, params, config):
    shard(saved)
    assert_same(hf.load_params(saved, config), params)


def test_load_into_shardings(saved, params, config):
    shardings = param_shardings(abstract_params(Decoder(config)), make_mesh())
    loaded = hf.load_params(saved, config, shardings=shardings)
    assert_same(loaded, params)
    assert jax.tree.map(lambda x: x.sharding, loaded) == shardings


def test_shards_are_as_transformers_names_them(tmp_path, params, config):
    hf.save_pretrained(tmp_path, params, config, max_shard_bytes=MOST)
    index = json.loads((tmp_path / INDEX).read_text())
    tensors, files = index["weight_map"], sorted(set(index["weight_map"].values()))
    n = len(files)
    assert files == [f"model-{i:05}-of-{n:05}.safetensors" for i in range(1, n + 1)] and n > 3
    assert set(files) | {INDEX, "config.json"} == {file.name for file in tmp_path.iterdir()}
    held = {file: load_file(tmp_path / file) for file in files}
    assert tensors == {name: file for file, part in held.items() for name in part}
    sizes = [sum(x.nbytes for x in part.values()) for part in held.values()]
    assert max(sizes) <= MOST
    assert (
        index["metadata"]["total_size"]
        == sum(sizes)
        == 4 * sum(x.size for x in jax.tree.leaves(params))
    )


def test_the_file_is_in_the_order_of_the_model(saved):
    """One pass over the file fills the layers one after the other."""
    with open(saved / WEIGHTS, "rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    header.pop("__metadata__")
    names = sorted(header, key=lambda name: header[name]["data_offsets"])
    assert names[0] == "model.embed_tokens.weight"
    assert names[-2:] == ["model.norm.weight", "lm_head.weight"]
    layers = [int(re.findall(r"layers\.(\d+)\.", name)[0]) for name in names[1:-2]]
    assert layers == sorted(layers) and set(layers) == {0, 1, 2}


def test_saving_keeps_a_tokenizer_and_refuses_old_weights(saved, tmp_path, params, config):
    (tmp_path / "tokenizer.json").write_text("{}")
    hf.save_pretrained(tmp_path, params, config, generation_config={"eos_token_id": [1, 2]})
    names = {file.name for file in tmp_path.iterdir()} - {"model"}
    assert names == {"config.json", "generation_config.json", WEIGHTS, "tokenizer.json"}
    with pytest.raises(UserError, match=f"{re.escape(str(saved / WEIGHTS))} is there already"):
        hf.save_pretrained(saved, jax.tree.map(jnp.zeros_like, params), config)
    assert_same(hf.load_params(saved, config), params)


def test_parameters_of_another_model_are_not_saved(tmp_path, params, make_config):
    with pytest.raises(ValueError, match="not those of the config"):
        hf.save_pretrained(tmp_path / "m", params, make_config(tie_embeddings=True))
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("family", FAMILIES)
def test_transformers_reads_what_we_save(family, tmp_path, make_config, random_params, full_logits):
    torch = pytest.importorskip("torch", reason="transformers needs PyTorch to compute a model")
    from transformers import AutoModelForCausalLM

    config = make_config(**FAMILIES[family])
    params = random_params(config)
    generation = {"do_sample": False}
    hf.save_pretrained(tmp_path, params, config, None, generation, max_shard_bytes=MOST)
    theirs, report = AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, output_loading_info=True
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


@pytest.mark.parametrize("dtype", [np.float32, jnp.bfloat16])
def test_a_copy_of_a_tied_head_is_ignored_and_another_head_refused(
    dtype, tmp_path, make_config, random_params, monkeypatch
):
    """Transformers does not tie a head that differs. The copy may be of another type."""
    monkeypatch.setattr(hf, "_ROWS", 10)  # the last of the slices is compared, too
    config, exact = make_config(tie_embeddings=True), np.float32(jnp.bfloat16(0.1))
    params = jax.tree.map(lambda x: jnp.where(x > 0, exact, -exact), random_params(config))
    head = np.array(params["embedding"], dtype)
    hf.save_pretrained(tmp_path, params, config)
    rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": head}))
    assert_same(hf.load_params(tmp_path, config), params)
    head[-1, -1] += 1
    rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": head}))
    complaint = f"{WEIGHTS}: lm_head.weight is not .*: set tie_word_embeddings to false in config"
    with pytest.raises(UserError, match=complaint):
        hf.load_params(tmp_path, config)
    rewrite(tmp_path, lambda tensors: tensors.update({"lm_head.weight": head[1:]}))
    with pytest.raises(UserError, match="wrong shape: lm_head.weight"):
        hf.open_checked(tmp_path, config)


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


@pytest.mark.parametrize("dtype, name", [(np.int8, "I8"), (np.float64, "F64")])
def test_a_tensor_of_another_dtype_is_named(dtype, name, saved, config):
    """Quantized weights, say. A copy that is not read may have any type."""

    def damage(tensors):
        tensors["model.norm.weight"] = tensors["model.norm.weight"].astype(dtype)
        tensors["model.rotary_emb.inv_freq"] = np.ones(4, dtype)

    rewrite(saved, damage)
    complaint = f"{WEIGHTS} .*not read .save as float32.*: model.norm.weight {name}$"
    with pytest.raises(UserError, match=complaint):
        hf.load_params(saved, config)


def cut_short(directory):
    data = (directory / "a.safetensors").read_bytes()
    (directory / "a.safetensors").write_bytes(data[:-100])


def lose_a_tensor(directory):
    tensors = load_file(directory / "a.safetensors")
    tensors.pop("lm_head.weight")
    save_file(tensors, directory / "a.safetensors")


def stale_copy(directory):
    """A later shard has another lm_head.weight than the one that the index names."""
    tensors = load_file(directory / "b.safetensors")
    tensors["lm_head.weight"] = np.zeros((37, 24), np.float32)
    save_file(tensors, directory / "b.safetensors")


def replace_by_a_folder(name):
    def replace(directory):
        (directory / name).unlink()
        (directory / name).mkdir()

    return replace


@pytest.mark.parametrize(
    "damage, words",
    [
        (cut_short, ["a.safetensors", "cut short", "copy"]),
        (lambda d: (d / "a.safetensors").unlink(), ["a.safetensors", INDEX, "copy"]),
        (lose_a_tensor, ["a.safetensors", "lm_head.weight", INDEX]),
        (lambda d: (d / INDEX).write_text("{"), [INDEX, "copy"]),
        (lambda d: (d / INDEX).write_text("[]"), [INDEX, "JSON object"]),
        (lambda d: (d / INDEX).write_text("{}"), [INDEX, "weight_map", "copy"]),
        (lambda d: (d / INDEX).write_text('{"weight_map": {"x": 5}}'), [INDEX, "weight_map.x = 5"]),
        (replace_by_a_folder("a.safetensors"), ["a.safetensors", "Is a directory", "copy"]),
        (replace_by_a_folder(INDEX), [INDEX, "Is a directory", "copy"]),
        (stale_copy, ["b.safetensors", "unexpected: lm_head.weight", INDEX, "copy"]),
    ],
    ids=[
        "cut_short",
        "absent_shard",
        "absent_tensor",
        "bad_index",
        "list",
        "no_map",
        "no_name",
        "folder",
        "index_folder",
        "stale_copy",
    ],  # fmt: skip
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
