"""What is planned where little is said."""

import pytest

from launch.workload import REFERENCE, find_model, reference_config, with_mesh
from riskpo_jax.config import Config
from riskpo_jax.errors import UserError
from riskpo_jax.models.known import known


def test_the_reference_workload_gives_each_data_shard_a_response_and_sixteen_slots():
    layout = {"mesh.fsdp": 64, "mesh.tensor": 4}
    for tensor, shards in ((2, 128), (4, 64), (0, 64)):
        config = reference_config({**layout, "rollout.tensor": tensor}, chips=256)
        assert config.rollout.slots == 16 * shards
        assert config.train.tokens_per_micro_batch == config.rollout.max_response_length
        assert config.data.questions_per_step == REFERENCE["data.questions_per_step"]


def test_there_are_no_more_slots_than_responses():
    assert reference_config({"mesh.fsdp": 512}, chips=512).rollout.slots == 512 * 8


def test_what_is_given_stays():
    given = {"rollout.slots": 40, "model.param_dtype": "float32", "mesh.fsdp": 64}
    config = reference_config(given | {"train.tokens_per_micro_batch": 6144}, chips=64)
    assert config.rollout.slots == 40
    assert config.model.param_dtype == "float32"
    assert config.train.tokens_per_micro_batch == 6144


def test_models_are_found_by_name_and_by_directory(tmp_path):
    assert find_model("qwen2.5-7b") == ("Qwen2.5-7B", known("Qwen2.5-7B"))
    assert find_model("models/Qwen2.5-1.5B-Instruct") == ("Qwen2.5-1.5B", known("Qwen2.5-1.5B"))
    name, shape = find_model("experiments/assets/tiny-bytes")
    assert name == "tiny-bytes" and shape.vocab_size < 1000


def test_an_unknown_model_names_those_that_are_known():
    with pytest.raises(
        UserError, match="^--model=gpt-5 is not a directory .* known: Qwen2.5-0.5B, "
    ):
        find_model("gpt-5")


def test_the_mesh_goes_into_the_settings():
    config = with_mesh(Config(), {"mesh.fsdp": 8, "mesh.data": 2})
    assert (config.mesh.data, config.mesh.fsdp, config.mesh.tensor) == (2, 8, 1)
    assert with_mesh(config, {}) == config
