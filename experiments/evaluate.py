"""Evaluates a model: `python -m experiments.evaluate --flagfile=F --model.path=DIR [--output=FILE]`.

For the policy of a run: `--flagfile=RUN/run.flags --model.path=RUN/model`, or a checkpoint of it:
`--flagfile=RUN/run.flags --workdir=RUN --step=N`. Without --step the weights are those of --model.path
and nothing else: --model.init and --lora say how a run began and what it trained. To evaluate adapters of
another origin, merge them first (`python -m experiments.export`).
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
from absl import flags
from jax.sharding import Mesh
from rich.console import Console

from experiments import flags as experiment_flags
from riskpo_jax.config import Config, LoraConfig
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.table import evaluation_table
from riskpo_jax.files import replacing
from riskpo_jax.models import lora
from riskpo_jax.reporting.run_dir import RunDir
from riskpo_jax.reporting.writers import strict_json
from riskpo_jax.training import setup, weights
from riskpo_jax.training.checkpoints import Checkpoints

flags.adopt_module_key_flags(experiment_flags)  # so that --help lists them
_STEP = flags.DEFINE_integer("step", None, "Checkpoint of --workdir to evaluate, not --model.path.")
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the rows of the table.")


def main() -> None:
    console = Console()
    config = experiment_flags.config_from_flags()
    if _STEP.value is None:
        if config.lora.rank:
            console.print(
                f"evaluating --model.path={config.model.path} as it is: --lora.* says how a run "
                "trained, experiments.export merges adapters",
                soft_wrap=True,
                highlight=False,
            )
        config = dataclasses.replace(
            config, model=dataclasses.replace(config.model, init="pretrained"), lora=LoraConfig()
        )
    output = Path(_OUTPUT.value) if _OUTPUT.value else None
    if output and not output.parent.is_dir():
        raise UserError(f"--output={output}: there is no folder {output.parent}")
    policy = setup.load_policy(config)
    reward = setup.load_reward(config)
    eval_set, skipped = setup.load_eval_set(config, policy)
    setup.print_skipped(console, config, skipped, "evaluation")
    if eval_set is None:
        raise UserError("there is nothing to evaluate on: give --data.eval_path")
    mesh = setup.load_mesh(config, ["eval.batch_size"])
    key_data = jax.random.key_data(jax.random.key(config.seed))
    result = setup.evaluate_policy(
        policy,
        setup.make_sampler(config, policy, mesh),
        reward,
        eval_set,
        load_params(config, policy, mesh),
        key_data,
        step=_STEP.value or 0,
    )
    console.print(evaluation_table(result, config.eval.k))
    if output:
        rows = strict_json(result.summary(config.eval.k))
        with replacing(output) as aside:
            aside.write_text(json.dumps(rows, indent=1) + "\n")


def load_params(config: Config, policy: setup.Policy, mesh: Mesh) -> Any:
    """The weights of --model.path, or of the checkpoint that --workdir and --step name.

    Raises:
      UserError: no such checkpoint, or one of other settings.
    """
    if _STEP.value is None:
        return weights.load_base(config, policy, mesh)
    directory = RunDir(experiment_flags.required_path(experiment_flags.WORKDIR))
    folder = directory.existing_checkpoints()
    with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
        like = weights.trained_shapes(policy.model, mesh)
        trained = checkpoints.restore_params(like, step=_STEP.value)
    return lora.join(weights.load_frozen(config, policy, mesh), trained)


if __name__ == "__main__":
    experiment_flags.run(main)
