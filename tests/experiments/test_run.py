"""What a run says before its first step, and what it takes for no model."""

import dataclasses

import pytest

from experiments.run import what_the_model_sees
from riskpo_jax.config import from_flat
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.training.setup import check_model_directory, load_policy


@pytest.fixture(scope="module")
def policy():
    template = {"data.prompt_template": "{numbers}={target}:"}
    path = {"model.path": "experiments/assets/countdown-base"}
    return load_policy(from_flat(template | path))


def test_a_prompt_and_the_ends_as_the_model_sees_them(policy):
    problem = Problem("p", "", "", "", metadata={"numbers": "3,4", "target": 7})
    prompt, ends = what_the_model_sees(policy, problem)
    assert prompt == "prompt of p: '3,4=7:'"
    (end,) = policy.eos_ids
    assert ends == f"responses end at <eos> ({end})"
    config = dataclasses.replace(policy.model.config, eos_token_ids=(5,))
    stranger = dataclasses.replace(policy, model=policy.model.clone(config=config))
    *_, warning = what_the_model_sees(stranger, problem)
    assert warning.startswith(f"warning: config.json ends responses at [5], the tokenizer at {end}")


@pytest.mark.parametrize(
    ("file", "remedy"),
    [("run.flags", "the folder of a run: give .*/model"), ("adapter_config.json", "--lora.path")],
)
def test_what_is_easily_taken_for_a_model(file, remedy, tmp_path):
    (tmp_path / file).touch()
    with pytest.raises(UserError, match=remedy):
        check_model_directory(tmp_path)
