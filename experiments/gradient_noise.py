"""How noisy each estimator's gradient is: `python -m experiments.gradient_noise --model=WHERE --out=DIR`.

--model is what experiments.evaluate takes. The same --batches independent rollout batches serve all
estimators, so they are compared at equal compute: --data.questions_per_step questions with
--rollout.group_size responses each. A gradient is that of the training loss at the policy that sampled
(ratio 1), by the training's own code. In DIR: gradient_noise.json, whose arrays
`riskpo_jax.diagnostics.gradient_noise` defines, and a picture.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import numpy as np
from absl import flags
from jax.flatten_util import ravel_pytree
from rich.console import Console

from experiments import flags as experiment_flags
from experiments import on_policy
from experiments.gradient_estimators import EXPECTED_MVAR, MEAN_REWARD, PAPER, configs_of
from riskpo_jax.algorithms import quantiles
from riskpo_jax.config import AlgorithmConfig, Config, to_flat
from riskpo_jax.diagnostics.gradient_noise import FEWEST_BATCHES, gram, with_intervals
from riskpo_jax.errors import UserError
from riskpo_jax.reporting.gradient_noise import gradient_noise_figure, gradient_noise_tables
from riskpo_jax.reporting.measurement import (
    check_folder,
    print_whole,
    write_numbers,
    write_picture,
)
from riskpo_jax.reporting.progress import Progress
from riskpo_jax.training import setup
from riskpo_jax.training.advantages import AdvantageFn, make_advantage_fn, tracked_levels
from riskpo_jax.training.micro_batches import Sequences
from riskpo_jax.training.post_train import Experience
from riskpo_jax.training.state import Purpose, purpose_key
from riskpo_jax.training.train_step import make_policy_update
from riskpo_jax.training.update import Update, mean_gradients
from riskpo_jax.types import TrackerState

flags.adopt_module_key_flags(experiment_flags)  # so that --help lists them
_MODEL = flags.DEFINE_string(
    "model", None, "A run's folder, RUN/checkpoints/N, or a Hugging Face model directory."
)
_OUT = flags.DEFINE_string("out", None, "Folder for the JSON and the picture.")
_BATCHES = flags.DEFINE_integer(
    "batches", 64, "Independent rollout batches.", lower_bound=FEWEST_BATCHES
)
_MAX_GB = flags.DEFINE_float("max_gb", 8.0, "Most memory for the gradients of all, in GB.")


def main() -> None:
    console = Console()
    path, out = experiment_flags.required_path(_MODEL), experiment_flags.required_path(_OUT)
    given = experiment_flags.given_settings()
    source = on_policy.sources_at(path, given, _MODEL.name)[-1]
    settings, _ = on_policy.settings_of(source, given)
    configs = configs_of(settings)
    check_folder(out)
    (name,) = on_policy.names_of([path])
    with on_policy.opened(name, [source], given, out, console) as subject:
        gradients = gradients_of(subject, list(configs.values()), console)
    names, config = list(configs), subject.run.config
    arrays = with_intervals(gram(gradients))
    result = {
        "model": {"name": subject.name, "step": source.step},
        "settings": to_flat(config),
        "estimators": {
            name: to_flat(c)["algorithm.loss_aggregation"] for name, c in configs.items()
        },
        "batches": len(gradients),
        "statistics": {
            name: dict(zip(("value", "low", "high"), values, strict=True))
            for name, values in arrays.items()
        },
        "rows": rows_of(names, arrays),
    }
    print_whole(gradient_noise_tables(result))
    numbers = write_numbers(out, "gradient_noise", result)
    picture = write_picture(out, "gradient_noise", gradient_noise_figure(result))
    for path in (numbers, picture):
        console.print(path, soft_wrap=True, highlight=False)


def gradients_of(subject: on_policy.Subject, configs: list[Config], console: Console) -> np.ndarray:
    """float32[N, E, P]: the gradient of every estimator in each of N batches."""
    run, count = subject.run, _BATCHES.value
    frozen, trained = subject.load(subject.sources[-1])
    size = sum(leaf.size for leaf in jax.tree.leaves(trained))
    refuse_too_many(count, len(configs), size)
    algorithms = [config.algorithm for config in configs]
    updates = updates_of(subject, algorithms)
    flat = jax.jit(lambda sums: ravel_pytree(mean_gradients(sums))[0])
    questions = range(run.config.data.questions_per_step)
    gradients_NxExP = np.empty((count, len(configs), size), np.float32)
    with Progress(2 * count, console=console, unit="batch", fields=(), plain_fields=()) as progress:
        experiences = []
        for experience in subject.batches(frozen, trained, count):
            experiences.append(experience)
            progress.update(len(experiences), {})
        credits = [credit_of(algorithm, experiences, run.config.seed) for algorithm in algorithms]
        for b, experience in enumerate(experiences):
            for e, (algorithm, credit) in enumerate(zip(algorithms, credits, strict=True)):
                sequences = Sequences(experience.prompts, experience.rollout, credit(b))
                update = updates[algorithm.loss_aggregation]
                sums = update.sums(trained, frozen, None, sequences, questions)
                gradients_NxExP[b, e] = -np.asarray(
                    flat(sums)
                )  # of the objective: the loss's falls
            progress.update(count + b + 1, {})
    return gradients_NxExP


def refuse_too_many(batches: int, estimators: int, parameters: int) -> None:
    """Raises UserError where all gradients together would not fit into --max_gb."""
    needed = 4e-9 * batches * estimators * parameters
    if needed > _MAX_GB.value:
        fitting = int(batches * _MAX_GB.value / needed)
        hint = f"lower --batches to {fitting} or " if fitting >= FEWEST_BATCHES else ""
        raise UserError(
            f"{batches} batches x {estimators} estimators x {parameters} parameters take {needed:.3g} GB "
            f"of memory, more than --max_gb={_MAX_GB.value:g}: {hint}raise it"
        )


def updates_of(subject: on_policy.Subject, algorithms: list[AlgorithmConfig]) -> dict[str, Update]:
    """One for each way to average over tokens: what else tells estimators apart are the advantages."""
    run = subject.run
    optimizer = setup.make_optimizer(run.config)
    return {
        algorithm.loss_aggregation: make_policy_update(
            replace(run.config, algorithm=algorithm), run.policy.model, optimizer, run.mesh
        )
        for algorithm in algorithms
    }


def credit_of(
    algorithm: AlgorithmConfig, experiences: list[Experience], seed: int
) -> Callable[[int], np.ndarray]:
    """b -> float32[N]: the advantages of batch b, with the tracker as it is after all batches.

    The tracker goes through them as in training and then stands still, so that batches do not differ in
    it; they are independent but for what each did to it. A batch's key, and so its bundles and
    permutations, is the same for all estimators.
    """
    advantage_fn = jax.jit(make_advantage_fn(algorithm))
    root = jax.random.key_data(jax.random.key(seed))
    keys = [purpose_key(root, Purpose.BUNDLES, b) for b in range(len(experiences))]
    tracker = settled_tracker(advantage_fn, algorithm, keys, experiences)

    def credit(b: int) -> np.ndarray:
        advantages_QxG, _, _ = advantage_fn(keys[b], experiences[b].rewards_QxG(), tracker)
        return np.asarray(advantages_QxG).reshape(-1)

    return credit


def settled_tracker(
    advantage_fn: AdvantageFn,
    algorithm: AlgorithmConfig,
    keys: list[jax.Array],
    experiences: list[Experience],
) -> TrackerState:
    tracker = quantiles.init(len(tracked_levels(algorithm)))
    for key, experience in zip(keys, experiences, strict=True):
        _, tracker, _ = advantage_fn(key, experience.rewards_QxG(), tracker)
    return tracker


def rows_of(names: list[str], arrays: dict[str, Any]) -> list[dict[str, Any]]:
    """What is said of each estimator: [value, low, high] each."""
    at = {name: i for i, name in enumerate(names)}

    def entry(name: str, *index: int) -> list[float]:
        return [float(part[index]) for part in arrays[name]]

    rows = []
    for name, e in at.items():
        bundling = "stratified" if name.endswith("stratified") else "random"
        beside = at[EXPECTED_MVAR[bundling]]
        ratio = np.exp(entry("log_snr_ratio", e, at[PAPER])).tolist()
        rows.append(
            {
                "estimator": name,
                "snr": entry("snr", e),
                "snr_over_paper": ratio,
                "alignment": entry("alignment", e),
                "cosine_mean_reward": entry("cosine", e, at[MEAN_REWARD]),
                "cosine_expected_mvar": entry("cosine", e, beside),
                "difference_expected_mvar": entry("relative_difference", e, beside),
            }
        )
    return rows


if __name__ == "__main__":
    experiment_flags.run(main)
