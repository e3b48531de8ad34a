"""Graders by the names of rewards."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection
from functools import partial

from riskpo_jax.config import RewardConfig
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.code import CodeGrader
from riskpo_jax.rewards.functions import CHOICES, FUNCTIONS, NAMES, get_reward, import_path
from riskpo_jax.rewards.grader import FunctionGrader, Grader, RoutedGrader
from riskpo_jax.rewards.pool import PoolGrader

ISOLATED = ("math", "reasoning_gym")  # they run large libraries on what a model wrote


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
            f"{', '.join(NAMES)} or your own as package.module:function"
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
    path = _path(name, config)
    if name in ISOLATED or (config.isolate and name not in FUNCTIONS):
        return PoolGrader(
            path,
            _options(name, config),
            workers=workers,
            timeout_s=config.timeout_s,
            memory_mb=config.memory_mb,
        )
    return FunctionGrader(partial(get_reward(path), **_options(name, config)))


def _path(name: str, config: RewardConfig) -> str:
    """The import path of the function that the settings choose. Raises UserError for an unknown name."""
    scores = {"countdown": config.countdown_score, "reasoning_gym": config.reasoning_gym_score}
    return CHOICES[name][scores[name]] if name in CHOICES else import_path(name)


def _options(name: str, config: RewardConfig) -> dict[str, object]:
    """The settings of a reward function, by the names of its arguments."""
    return {
        "math": {"final_answer": config.final_answer, "format_credit": config.format_credit},
    }.get(name, {})
