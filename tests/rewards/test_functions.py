"""Names and import paths of reward functions."""

import pytest

from riskpo_jax.config import RewardConfig
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.functions import CHOICES, FUNCTIONS, get_reward


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_name_resolves(name):
    assert get_reward(name).__name__ == f"{name}_reward"


@pytest.mark.parametrize(
    ("name", "setting"),
    [("countdown", "countdown_score"), ("reasoning_gym", "reasoning_gym_score")],
)
def test_every_choice_of_a_setting_has_its_function(name, setting):
    field = RewardConfig.__dataclass_fields__[setting]
    assert set(CHOICES[name]) == set(field.metadata["choices"])
    assert len({get_reward(path) for path in CHOICES[name].values()}) == len(CHOICES[name])
    assert CHOICES[name][field.default] == FUNCTIONS[name]


def test_a_reward_of_the_user(tmp_path, monkeypatch):
    (tmp_path / "users_rewards.py").write_text(
        "from riskpo_jax.rewards.outcome import verdict\n"
        "def exact(response, problem):\n"
        "    return verdict(response == problem.answer, response)\n"
        "limit = 3\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    reward = get_reward("users_rewards:exact")
    assert reward("x", Problem("p", "", "x", "d")).correct
    for path in ("users_rewards:missing", "users_rewards:limit"):
        with pytest.raises(UserError, match="users_rewards has no function"):
            get_reward(path)


def test_unknown_names():
    with pytest.raises(UserError, match="use auto, countdown, math, reasoning_gym, code"):
        get_reward("maths")
    with pytest.raises(UserError, match="cannot import no_such_module"):
        get_reward("no_such_module:reward")


def test_a_module_that_fails_on_import(tmp_path, monkeypatch):
    (tmp_path / "broken_rewards.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UserError, match=r"cannot import broken_rewards \(division by zero\)"):
        get_reward("broken_rewards:reward")
