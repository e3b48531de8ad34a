"""The parts of a run that do not change from step to step."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from jax.sharding import Mesh
from rich.console import Console

from riskpo_jax.config import Config
from riskpo_jax.data.loader import Loader
from riskpo_jax.evaluation.evaluator import EvalSet
from riskpo_jax.reporting.run_dir import RunDir
from riskpo_jax.rewards.grader import Grader
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.training.setup import Policy
from riskpo_jax.training.state import TrainState


@dataclass(frozen=True)
class Run:
    config: Config
    policy: Policy
    mesh: Mesh
    sampler: Sampler
    grader: Grader
    loader: Loader
    eval_sets: list[EvalSet]
    directory: RunDir
    console: Console


Record = dict[str, Any]
StepFn = Callable[[TrainState], tuple[TrainState, dict[str, float], list[Record]]]
"""One step of training: the next state, metrics on the host, and sample records for people to read."""
