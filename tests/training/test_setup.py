"""From a configuration to the parts of a run, and one line for what cannot be."""

import json
import shutil
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.tokenizers import byte_tokenizer
from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.hf import save_pretrained
from riskpo_jax.models.partitioning import init_params
from riskpo_jax.sharding import MESH_AXES, make_mesh, rollout_mesh
from riskpo_jax.training import setup
from riskpo_jax.training.weights import load_trained

SHAPE = DecoderConfig(260, 8, 8, 1, 2, 1, 4, max_position_embeddings=64, eos_token_ids=(5,))


@pytest.fixture(scope="module")
def stored():
    return init_params(Decoder(SHAPE), jax.random.key(5), make_mesh())


@pytest.fixture(scope="module")
def directory(tmp_path_factory, stored):
    """A model directory with a byte tokenizer and an end token of its own, 7."""
    path = tmp_path_factory.mktemp("model")
    save_pretrained(path, stored, SHAPE, generation_config={"eos_token_id": [7]})
    byte_tokenizer().save_pretrained(path)
    return path


def test_a_policy_is_read_from_its_directory(make_config, directory):
    config = make_config(
        model__path=str(directory),
        model__compute_dtype="bfloat16",
        data__prompt_template="Q: {problem}",
        data__max_prompt_length=8,
    )
    policy = setup.load_policy(config)
    assert policy.eos_ids == (1, 5, 7)  # the tokenizer's, config.json's, generation_config.json's
    assert policy.model.dtype == jnp.bfloat16 and policy.model.param_dtype == jnp.float32
    prompts = policy.encode([Problem("a", "1+1", "2", "sums")])
    assert prompts.tokens.shape == (1, 8)
    assert policy.tokenizer.decode(prompts.tokens[0, : prompts.lengths[0]]) == "Q: 1+1"


def test_parameters_come_from_the_directory_or_from_the_seed(make_config, directory, stored):
    def load(**changes):
        config = make_config(model__path=str(directory), **changes)
        return load_trained(config, setup.load_policy(config), make_mesh())

    pretrained, zero, one = (
        load(),
        load(model__init="random"),
        load(model__init="random", seed=1),
    )
    for a, b in zip(jax.tree.leaves(pretrained), jax.tree.leaves(stored), strict=True):
        assert a.dtype == jnp.float32
        np.testing.assert_array_equal(a, b)
    assert (zero["embedding"] != one["embedding"]).any()
    assert (zero["embedding"] != pretrained["embedding"]).any()


def test_no_such_directory(make_config, tmp_path):
    config = make_config(model__path=str(tmp_path / "absent"))
    with pytest.raises(UserError, match="--model.path=.*absent is not a directory"):
        setup.load_policy(config)


def test_a_tokenizer_larger_than_the_vocabulary(make_config, tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dict(SHAPE.to_hf(), vocab_size=100)))
    byte_tokenizer().save_pretrained(tmp_path)
    with pytest.raises(UserError, match="tokenizer.json has 260 tokens, more than .* of 100"):
        setup.load_policy(make_config(model__path=str(tmp_path)))


def test_sequences_longer_than_the_model_can_place(make_config, directory):
    config = make_config(model__path=str(directory), rollout__max_response_length=60)
    with pytest.raises(UserError, match="=5 and .*=60 exceed .*max_position_embeddings of 64"):
        setup.load_policy(config)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "must hold a JSON object, not list"),
        *(
            (f'{{"eos_token_id": {value}}}', ": eos_token_id = .* must be a token id below 260 or")
            for value in ('"</s>"', "{}", "[[1]]", "2.5", "true", "260", "-1", "[1, 260]")
        ),
    ],
)
def test_a_broken_generation_config(content, complaint, make_config, directory, tmp_path):
    shutil.copytree(directory, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").write_text(content)
    with pytest.raises(UserError, match=f"model/generation_config.json ?{complaint}"):
        setup.load_policy(make_config(model__path=str(tmp_path / "model")))


def test_a_model_that_names_no_end_token(make_config, directory, tmp_path):
    model = tmp_path / "model"
    shutil.copytree(directory, model)
    (model / "generation_config.json").unlink()
    for name in ("config.json", "tokenizer_config.json"):
        settings = json.loads((model / name).read_text())
        removed = {"eos_token", "eos_token_id"}
        kept = {key: value for key, value in settings.items() if key not in removed}
        (model / name).write_text(json.dumps(kept))
    with pytest.raises(UserError, match=f"{model}: neither .*config.json.*: set eos_token_id in"):
        setup.load_policy(make_config(model__path=str(model)))


def test_weights_are_checked_unless_they_are_drawn(make_config, directory, tmp_path):
    shutil.copytree(directory, tmp_path / "model")
    (tmp_path / "model" / "model.safetensors").unlink()
    path = {"model__path": str(tmp_path / "model")}
    with pytest.raises(UserError, match="safetensors"):
        setup.load_policy(make_config(**path))
    setup.load_policy(make_config(model__init="random", **path))


def test_the_evaluation_set_leaves_out_and_counts_what_does_not_fit(
    make_config, directory, tmp_path
):
    lines = [{"id": str(n), "problem": "1" * n, "answer": "1"} for n in (2, 9, 3)]
    file = tmp_path / "eval.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    names = {
        "model__path": str(directory),
        "data__source": "jsonl",
        "data__path": (str(file),),
        "reward__name": "math",
    }
    config = make_config(data__eval_path=str(file), **names)
    policy = setup.load_policy(config)
    (eval_set,), skipped = setup.load_eval_sets(config, policy)
    assert skipped == {eval_set.name: 1}
    assert [problem.id for problem in eval_set.problems] == ["2", "3"]
    np.testing.assert_array_equal(eval_set.prompts.lengths, [2, 3])
    assert setup.load_eval_sets(make_config(**names), policy) == ([], {})


def test_the_evaluation_sets_stand_next_to_each_other(make_config, directory, monkeypatch):
    sets = {
        name: [Problem(f"{name}{n}", "1" * n, "1", name) for n in sizes]
        for name, sizes in (("b", (2, 3)), ("a", (9, 1)))
    }
    monkeypatch.setattr(setup, "make_eval_sources", lambda config: sets)
    config = make_config(model__path=str(directory))
    eval_sets, skipped = setup.load_eval_sets(config, setup.load_policy(config))
    assert skipped == {"b": 0, "a": 1}
    assert [(s.name, len(s.problems)) for s in eval_sets] == [("b", 2), ("a", 1)]


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"mesh__tensor": 4, "rollout__tensor": 0}, None),
        ({"mesh__tensor": 8}, "--mesh.tensor=8 does not divide the model's 4 attention heads"),
        ({"rollout__tensor": 4}, None),
        (
            {"rollout__tensor": 8},
            "--rollout.tensor=8 does not divide the model's 4 attention heads",
        ),
    ],
)
def test_tensor_must_divide_the_heads(monkeypatch, make_config, tiny_model, changes, refused):
    mesh = SimpleNamespace(size=8, devices=np.array(jax.devices() * 8))
    monkeypatch.setattr(setup, "make_mesh", lambda *sizes: mesh)
    monkeypatch.setattr(setup, "rollout_mesh", lambda *_: None)
    if refused is None:
        assert setup.load_mesh(make_config(**changes), tiny_model.config) is mesh
    else:
        with pytest.raises(UserError, match=f"{refused}: use one of 1, 2, 4"):
            setup.load_mesh(make_config(**changes), tiny_model.config)


def test_a_rollout_layout_that_does_not_divide_the_devices_is_refused():
    with pytest.raises(UserError, match="--rollout.tensor=3 does not divide the 8 devices"):
        rollout_mesh(AbstractMesh((2, 2, 2), MESH_AXES), 3)


@pytest.mark.parametrize(
    ("changes", "kv_dtype", "slots"),
    [
        ({}, "float32", 16),
        ({"model__compute_dtype": "bfloat16", "rollout__slots": 3}, "bfloat16", 3),
        ({"rollout__kv_cache_dtype": "int8"}, "int8", 16),
        ({"rollout__kv_cache_dtype": "bfloat16"}, "bfloat16", 16),
    ],
)
def test_the_sampler_is_as_configured(make_config, tiny_model, changes, kv_dtype, slots):
    config = make_config(rollout__steps_per_sync=5, **changes)
    model = tiny_model.clone(dtype=jnp.dtype(config.model.compute_dtype), remat="all")
    sampler = setup.make_sampler(config, model, (3, 11), make_mesh())
    programs = sampler.programs
    assert (str(programs.kv_dtype), sampler.slots) == (kv_dtype, slots)
    assert (programs.longest, programs.eos_ids, programs.width) == (8, (3, 11), 5)
    assert programs.model.remat == "none"


@pytest.mark.parametrize(
    ("changes", "updates"),
    [
        ({"train__epochs": 2, "train__minibatches": 4}, 24),
        ({"train__stage": "supervised", "train__epochs": 2}, 3),  # of rollout batches only
    ],
)
def test_the_cosine_schedule_ends_with_the_run(make_config, changes, updates):
    config = make_config(
        train__steps=3,
        train__schedule="cosine",
        train__warmup_steps=0,
        train__learning_rate=1.0,
        **changes,
    )
    optimizer = setup.make_optimizer(config)
    params = {"scale": jnp.float32(0)}
    state, moves = optimizer.init(params), []
    for _ in range(updates + 1):
        gradient = {"scale": jnp.float32(1)}
        update, state = optimizer.update(gradient, state, params, key=jax.random.key(0))
        moves.append(float(-update["scale"]))
    expected = 0.5 * (1 + np.cos(np.pi * np.arange(updates + 1) / updates))
    np.testing.assert_allclose(moves, expected, atol=1e-4)


@pytest.mark.parametrize("param_dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("moment_dtype", ["float32", "bfloat16"])
def test_the_state_s_types_are_those_asked_for(make_config, tiny_params, param_dtype, moment_dtype):
    """And what is planned without a device is what is made."""
    config = make_config(train__moment_dtype=moment_dtype)
    params = jax.tree.map(lambda x: x.astype(param_dtype), tiny_params)
    optimizer, mesh = setup.make_optimizer(config), make_mesh()
    state = setup.make_state(config, params, optimizer, mesh)
    adam = state.opt_state[1][0]
    for tree, dtype in ((state.params, param_dtype), ((adam.mu, adam.nu), moment_dtype)):
        assert {str(leaf.dtype) for leaf in jax.tree.leaves(tree)} == {dtype}
    planned = setup.state_shapes(config, params, optimizer, mesh)
    assert jax.tree.structure(planned) == jax.tree.structure(state)
    for a, b in zip(jax.tree.leaves(planned), jax.tree.leaves(state), strict=True):
        assert (a.shape, a.dtype, a.sharding) == (b.shape, b.dtype, b.sharding)


def test_the_first_state_follows_the_parameters(make_config, tiny_params):
    config, mesh = make_config(algorithm__preset="official_released", seed=3), make_mesh()
    optimizer = setup.make_optimizer(config)
    state = setup.make_state(config, tiny_params, optimizer, mesh)
    assert jax.tree.structure(state.params) == jax.tree.structure(tiny_params)
    for a, b in zip(jax.tree.leaves(state.params), jax.tree.leaves(tiny_params), strict=True):
        assert a.sharding == b.sharding
        np.testing.assert_array_equal(a, b)
    assert state.tracker.values.shape == (19,) and int(state.tracker.step) == 0
    assert (jax.random.wrap_key_data(state.key) == jax.random.key(3)).all()
