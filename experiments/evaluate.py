"""Evaluates a model: `python -m experiments.evaluate --flagfile=F --model.path=DIR [--output=FILE]`.

For the policy of a run: `--flagfile=RUN/run.flags --model.path=RUN/model`.
"""

from __future__ import annotations

import json
from pathlib import Path

import jax
from absl import flags
from rich.console import Console

from experiments import flags as experiment_flags
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.evaluator import evaluate
from riskpo_jax.evaluation.table import evaluation_table
from riskpo_jax.reporting.files import replacing
from riskpo_jax.training import setup
from riskpo_jax.training.state import Purpose, purpose_key

experiment_flags.define_flags()
_OUTPUT = flags.DEFINE_string("output", None, "JSON file for the rows of the table.")


def main() -> None:
    config = experiment_flags.config_from_flags()
    policy = setup.load_policy(config)
    reward = setup.load_reward(config)
    eval_set = setup.load_eval_set(config, policy)
    if eval_set is None:
        raise UserError("there is nothing to evaluate on: give --data.eval_path")
    mesh = setup.load_mesh(config)
    key_data = jax.random.key_data(jax.random.key(config.seed))
    result = evaluate(
        setup.make_sampler(config, policy, mesh),
        setup.load_or_init_params(config, policy, mesh),
        purpose_key(key_data, Purpose.EVALUATION, 0),
        eval_set.problems,
        eval_set.prompts,
        tokenizer=policy.tokenizer,
        reward=reward,
        sampling=setup.eval_sampling(config),
        samples=config.eval.samples,
        batch_size=config.eval.batch_size,
        dataset=eval_set.name,
        step=0,
    )
    Console().print(evaluation_table(result, config.eval.k))
    if _OUTPUT.value:
        with replacing(Path(_OUTPUT.value)) as aside:
            aside.write_text(json.dumps(result.summary(config.eval.k), indent=1) + "\n")


if __name__ == "__main__":
    experiment_flags.run(main)
