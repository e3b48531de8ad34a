"""Rewards by name; a user's own by import path; and the graders that call them."""

from __future__ import annotations

import contextlib
import importlib
import os
from collections.abc import Collection

from riskpo_jax.config import RewardConfig
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.code import CodeGrader
from riskpo_jax.rewards.grader import FunctionGrader, Grader, RoutedGrader
from riskpo_jax.rewards.outcome import Reward
from riskpo_jax.rewards.pool import PoolGrader

# Import paths, so that a reward's libraries are loaded only when and where it is used.
FUNCTIONS = {
    "countdown": "riskpo_jax.rewards.countdown:countdown_reward",
    "math": "riskpo_jax.rewards.math:math_reward",
    "reasoning_gym": "riskpo_jax.rewards.reasoning_gym:reasoning_gym_reward",
}
ISOLATED = ("math", "reasoning_gym")  # they run large libraries on what a model wrote
REWARDS = (*FUNCTIONS, "code")


def make_grader(config: RewardConfig, rewards: Collection[str]) -> Grader:
    """What grades problems whose `reward` is one of `rewards`; --reward.name, unless auto, grades all.

    Worker processes and sandboxes are started. Close it in the end.

    Raises:
      UserError: a problem that says nothing of its reward under auto, an unknown reward, a function that
        cannot be imported, or a sandbox that does not work here.
    """
    if config.name != "auto":
        return _make(config.name, config)
    if "" in rewards:
        raise UserError(
            f"the problems do not say what grades them: give --reward.name, one of "
            f"{', '.join(REWARDS)} or your own as package.module:function"
        )
    with contextlib.ExitStack() as started:
        graders = {
            name: started.enter_context(contextlib.closing(_make(name, config)))
            for name in sorted(rewards)
        }
        started.pop_all()  # all are there: whoever holds the result closes them
    return RoutedGrader(graders)


def _make(name: str, config: RewardConfig) -> Grader:
    workers = config.workers or os.cpu_count() or 1
    if name == "code":
        return CodeGrader(
            score=config.code_score,
            workers=workers,
            timeout_s=config.code_timeout_s,
            memory_mb=config.code_memory_mb,
            unsafe=config.unsafe_code_without_sandbox,
        )
    path = _import_path(name)
    if name in ISOLATED or (config.isolate and name not in FUNCTIONS):
        return PoolGrader(
            path,
            _math_options(config) if name == "math" else {},
            workers=workers,
            timeout_s=config.timeout_s,
            memory_mb=config.memory_mb,
        )
    return FunctionGrader(get_reward(name))


def _math_options(config: RewardConfig) -> dict[str, object]:
    return {"final_answer": config.final_answer, "format_credit": config.format_credit}


def get_reward(name: str) -> Reward:
    """The reward function called `name`, or the one at "package.module:function".

    Raises UserError for an unknown name, a module that does not import and a function that is not
    there.
    """
    module_name, _, function_name = _import_path(name).partition(":")
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


def _import_path(name: str) -> str:
    path = FUNCTIONS.get(name, name)
    if ":" not in path:
        raise UserError(
            f"unknown reward {name!r}: use auto, {', '.join(REWARDS)}, "
            "or your own as package.module:function"
        )
    return path
