"""Reward functions by name; a user's own by import path."""

from __future__ import annotations

import importlib

from riskpo_jax.errors import UserError
from riskpo_jax.rewards.outcome import Reward

# Import paths, so that a reward's libraries are loaded only when and where it is used.
FUNCTIONS = {
    "countdown": "riskpo_jax.rewards.countdown:countdown_reward",
    "math": "riskpo_jax.rewards.math:math_reward",
    "reasoning_gym": "riskpo_jax.rewards.reasoning_gym:reasoning_gym_reward",
}
# Of rewards where a setting chooses among functions: its value -> the import path.
CHOICES = {
    "countdown": {
        "all": FUNCTIONS["countdown"],
        "distance": "riskpo_jax.rewards.countdown:distance_reward",
    },
    "reasoning_gym": {
        "graded": FUNCTIONS["reasoning_gym"],
        "all": "riskpo_jax.rewards.reasoning_gym:full_score_reward",
    },
}
NAMES = (*FUNCTIONS, "code")  # what --reward.name knows; code is no function, see rewards/code.py


def get_reward(name: str) -> Reward:
    """The reward function called `name`, or the one at "package.module:function".

    Raises UserError for an unknown name, a module that does not import and a function that is not
    there.
    """
    module_name, _, function_name = import_path(name).partition(":")
    try:
        module = importlib.import_module(module_name)
    except Exception as error:  # a user's module can fail in any way
        raise UserError(
            f"reward {name!r}: cannot import {module_name} ({error}): check the name and PYTHONPATH"
        ) from error
    reward = getattr(module, function_name, None)
    if not callable(reward):
        raise UserError(f"reward {name!r}: {module_name} has no function {function_name!r}")
    return reward


def import_path(name: str) -> str:
    """Where the function called `name` lies. Raises UserError for an unknown name."""
    path = FUNCTIONS.get(name, name)
    if ":" not in path:
        raise UserError(
            f"unknown reward {name!r}: use auto, {', '.join(NAMES)}, "
            "or your own as package.module:function"
        )
    return path
