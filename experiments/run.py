"""Trains a policy: `python -m experiments.run --flagfile=F --workdir=DIR`; the same again continues."""

from __future__ import annotations

from absl import flags
from rich.console import Console

from experiments import flags as experiment_flags
from riskpo_jax.data.loader import Loader
from riskpo_jax.data.sources import make_train_source
from riskpo_jax.evaluation import store
from riskpo_jax.evaluation.table import comparison_table, evaluation_table
from riskpo_jax.reporting.files import read_jsonl
from riskpo_jax.reporting.plots import plot_run
from riskpo_jax.reporting.run_dir import RunDir
from riskpo_jax.rewards.outcome import Kind
from riskpo_jax.training import setup
from riskpo_jax.training.loop import train
from riskpo_jax.training.run import Run

experiment_flags.define_flags()
_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if it is not there.")


def main() -> None:
    console = Console()
    config = experiment_flags.config_from_flags()
    run = prepare(config, RunDir(experiment_flags.required_path(_WORKDIR)), console)
    train(run)
    report(run)


def prepare(config, directory: RunDir, console: Console) -> Run:
    """Every part of the run. What can fail without a device fails first, before the folder is claimed."""
    policy = setup.load_policy(config)
    reward = setup.load_reward(config)
    source = make_train_source(config)
    batch_size = config.data.questions_per_step
    if config.train.stage == "supervised":
        batch_size = config.train.batch_size
    else:
        source, skipped = policy.fitting(source)
        if skipped:
            console.print(
                f"skipped {skipped} problems whose prompt is longer than "
                f"--data.max_prompt_length={config.data.max_prompt_length} tokens"
            )
    eval_set = setup.load_eval_set(config, policy)
    mesh = setup.load_mesh(config)
    directory.claim(config, experiment_flags.as_flagfile(config))
    return Run(
        config=config,
        policy=policy,
        mesh=mesh,
        sampler=setup.make_sampler(config, policy, mesh),
        reward=reward,
        loader=Loader(source, batch_size, config.seed),
        eval_set=eval_set,
        directory=directory,
        console=console,
    )


def report(run: Run) -> None:
    """The table of before and after, and the plots."""
    ks, evaluations = run.config.eval.k, run.directory.evaluations
    after = store.load(evaluations, run.config.train.steps)
    before = store.load(evaluations, 0)
    if before and after and run.config.train.steps:
        run.console.print(comparison_table(before, after, ks))
    elif after:
        run.console.print(evaluation_table(after, ks))
    lines = [f"model: {run.directory.model}"]
    if run.config.train.steps:
        lines.insert(0, f"plots: {plot_run(run.directory.path)[-1].parent}")
    if run.config.train.stage == "rl":
        lines.insert(0, f"training responses: {count_outcomes(run)}")
    for line in lines:
        run.console.print(line, soft_wrap=True, highlight=False)


def count_outcomes(run: Run) -> str:
    """How many of the run's training responses were graded as what, from its metrics."""
    rows = read_jsonl(run.directory.path / "metrics.jsonl")
    fractions = {kind: sum(row[f"reward/{kind}"] for row in rows) for kind in Kind}
    size = run.config.sequences_per_step
    return ", ".join(f"{round(share * size)} {kind}" for kind, share in fractions.items())


if __name__ == "__main__":
    experiment_flags.run(main)
