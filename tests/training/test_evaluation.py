"""What a model is evaluated with: what is given, what its run had, what suits it."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from riskpo_jax.config import from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.hf import save_pretrained
from riskpo_jax.models.partitioning import init_params
from riskpo_jax.reporting.run_dir import RunDir
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training import evaluation, setup
from riskpo_jax.training.evaluation import evaluation_config, fit_prompts
from riskpo_jax.training.source import Source, at_step, find_source

SHAPE = DecoderConfig(304, 8, 8, 1, 2, 1, 4, max_position_embeddings=512)


@pytest.fixture(scope="module")
def directory(tmp_path_factory, write_tokenizer):
    """A bfloat16 model directory whose tokenizer has a chat template."""
    path = tmp_path_factory.mktemp("models") / "chatty"
    params = init_params(Decoder(SHAPE), jax.random.key(0), make_mesh())
    save_pretrained(path, jax.tree.map(lambda x: x.astype(jnp.bfloat16), params), SHAPE)
    return write_tokenizer("qwen2", path)


def run_source(**settings) -> Source:
    """A run with recorded settings."""
    recorded = {"model.path": "base", "data.max_prompt_length": 64, "reward.name": "countdown"}
    return Source(resolve(from_flat(recorded | settings)), RunDir("run"), 8)


def test_a_directory_is_asked_in_its_own_way(directory):
    config, open_length = evaluation_config(find_source(directory), {"eval.samples": 8})
    assert config.model.path == str(directory) and config.model.param_dtype == "bfloat16"
    assert config.data.chat_template == "model"
    assert config.rollout.max_response_length == 256  # half the context
    assert (config.eval.samples, config.eval.k) == (8, (1, 8)) and open_length


def test_what_is_given_comes_first(directory):
    given = {
        "data.chat_template": "none",
        "data.max_prompt_length": 99,
        "rollout.max_response_length": 17,
        "model.param_dtype": "float32",
        "eval.k": (2,),
        # What a run's flagfile says of how it began is not meant.
        "model.path": "elsewhere",
        "model.init": "random",
        "lora.rank": 4,
    }
    config, open_length = evaluation_config(find_source(directory), given)
    assert (config.data.chat_template, config.data.max_prompt_length) == ("none", 99)
    assert (config.rollout.max_response_length, config.eval.k) == (17, (2,))
    assert config.model.param_dtype == "float32" and not open_length
    assert config.model.path == str(directory)
    assert (config.model.init, config.lora.rank) == ("pretrained", 0)


def test_a_long_context_leaves_a_fixed_room_for_responses(directory, monkeypatch):
    long = dataclasses.replace(SHAPE, max_position_embeddings=32_768)
    monkeypatch.setattr(evaluation.DecoderConfig, "from_directory", lambda _: long)
    config, _ = evaluation_config(Source(from_flat({"model.path": str(directory)})), {})
    assert config.rollout.max_response_length == 1024


def test_a_run_is_asked_as_it_was(directory):
    recorded = {
        "rollout.max_response_length": 9,
        "eval.samples": 4,
        "eval.k": (1, 4),
        "lora.rank": 2,
        "model.init": "random",
    }
    source = run_source(**recorded)
    assert evaluation_config(source, {}) == (source.config, False)
    same = {"data.source": "countdown", "data.levels": ("easy", "medium", "hard")}
    assert evaluation_config(source, same) == (source.config, False)
    config, _ = evaluation_config(source, {"eval.samples": 2, "lora.rank": 7})
    assert (config.eval.samples, config.eval.k, config.lora.rank) == (2, (1,), 2)


def test_other_data_bring_their_own_reward_and_length():
    source = run_source()
    config, open_length = evaluation_config(source, {"eval.datasets": ("math500",)})
    assert config.reward.name == "auto" and open_length
    files = {"data.source": "jsonl", "data.path": ("t.jsonl",), "data.eval_path": "e.jsonl"}
    source = run_source(**files, **{"reward.name": "math"})
    config, _ = evaluation_config(source, {"eval.datasets": ("math500",)})
    assert (config.data.eval_path, config.eval.datasets) == ("", ("math500",))
    config, open_length = evaluation_config(source, {"data.eval_path": "e.jsonl"})
    assert config == source.config and not open_length
    held = run_source(**{"eval.datasets": ("humaneval",), "reward.name": "auto"})
    given = {"data.eval_path": "e.jsonl", "reward.name": "math"}
    config, _ = evaluation_config(held, given)
    assert (config.data.eval_path, config.eval.datasets) == ("e.jsonl", ())
    config, _ = evaluation_config(held, given | {"eval.datasets": ("math500",)})
    assert (config.data.eval_path, config.eval.datasets) == ("e.jsonl", ("math500",))
    supervised = run_source(**{"train.stage": "supervised"})
    config, _ = evaluation_config(supervised, {"eval.datasets": ("math500",)})
    assert config.eval.datasets == ("math500",)
    given = {"eval.datasets": ("math500",), "reward.name": "math", "data.max_prompt_length": 70}
    config, open_length = evaluation_config(source, given)
    assert (config.reward.name, config.data.max_prompt_length) == ("math", 70) and not open_length


def test_k_beyond_the_samples_is_refused_where_it_is_asked_for():
    with pytest.raises(UserError, match="--eval.k=1,8 asks for more than --eval.samples=4"):
        evaluation_config(run_source(), {"eval.k": (1, 8), "eval.samples": 4})


@pytest.mark.parametrize(
    ("characters", "length"), [((3,), 64), ((64, 5), 64), ((5, 65), 128), ((700,), 512 - 256)]
)
def test_the_longest_prompt_makes_the_room(directory, monkeypatch, characters, length):
    problems = [Problem(str(n), "!" * n, "", "d") for n in characters]
    monkeypatch.setattr(
        evaluation, "make_eval_sources", lambda _: {"a": problems[:1], "b": problems}
    )
    given = {"data.chat_template": "none"}
    config, _ = evaluation_config(find_source(directory), given)
    policy = fit_prompts(setup.load_policy(config))
    assert policy.config.data.max_prompt_length == policy.prompts.max_length == length


def test_the_latest_step_is_named(directory, tmp_path):
    assert at_step(find_source(directory)) == find_source(directory)
    source = Source(from_flat({}), RunDir(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(UserError, match="no checkpoint of step None; its steps are: none"):
        at_step(source)
    for name in ("9", "10", "11.orbax-checkpoint-tmp"):
        (tmp_path / "checkpoints" / name).mkdir()
    assert at_step(source).step == 10
    assert at_step(dataclasses.replace(source, step=9)).step == 9
    with pytest.raises(UserError, match="no checkpoint of step 7; its steps are: 9, 10"):
        at_step(dataclasses.replace(source, step=7))
