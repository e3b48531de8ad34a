"""Trains a policy: `python -m experiments.run --flagfile=F --workdir=DIR`; the same again continues."""

from __future__ import annotations

import contextlib
import statistics
from functools import partial

from absl import flags
from rich.console import Console
from rich.table import Table

from experiments import distributed
from experiments import flags as experiment_flags
from experiments.preview import what_the_model_sees
from riskpo_jax import processes
from riskpo_jax.compile_cache import use_compile_cache
from riskpo_jax.config import Config, get
from riskpo_jax.data.contamination import without_overlaps
from riskpo_jax.data.loader import Loader
from riskpo_jax.data.problem import Source
from riskpo_jax.data.sources import contamination, make_train_source, rewards_named
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation import store
from riskpo_jax.evaluation.evaluator import EvalSet
from riskpo_jax.evaluation.table import comparison_table, evaluation_tables
from riskpo_jax.reporting.files import read_jsonl
from riskpo_jax.reporting.plots import plot_run
from riskpo_jax.reporting.run_dir import RunDir
from riskpo_jax.reporting.writers import require_wandb
from riskpo_jax.rewards.divided import divided
from riskpo_jax.rewards.outcome import Kind
from riskpo_jax.rewards.registry import make_grader
from riskpo_jax.training import setup
from riskpo_jax.training.loop import train
from riskpo_jax.training.run import Run
from riskpo_jax.training.warm_start import check_solutions

flags.adopt_module_key_flags(experiment_flags)  # so that --help lists them
flags.adopt_module_key_flags(distributed)


def main() -> None:
    config = experiment_flags.config_from_flags()
    directory = RunDir(experiment_flags.required_path(experiment_flags.WORKDIR))
    with distributed.together():
        run = prepare(config, directory, Console(quiet=not processes.is_main()))
        with contextlib.closing(run.grader):
            train(run)
        if processes.is_main():
            report(run)


def prepare(config: Config, directory: RunDir, console: Console) -> Run:
    """Every part of the run. What can fail without a device fails first, before the folder is claimed."""
    if processes.is_main():
        directory.check(config)
        if config.report.wandb:
            require_wandb()
    rewards = rewards_named(config)
    policy = setup.load_policy(config)
    source = checked_for_contamination(console, config, make_train_source(config))
    if config.train.stage == "supervised":
        batch = "train.batch_size"
        check_solutions(policy, source)
    else:
        batch = "data.questions_per_step"
        source, skipped = policy.fitting(source)
        setup.print_skipped(console, config, skipped, "training")
    if len(source) < get(config, batch):
        raise UserError(
            f"--{batch}={get(config, batch)} exceeds the {len(source)} training problems: lower it"
        )
    eval_sets, skipped = setup.load_eval_sets(config, policy)
    for name, count in skipped.items():
        setup.print_skipped(console, config, count, name)
    with contextlib.ExitStack() as held:
        grader = held.enter_context(contextlib.closing(make_grader(config.reward, rewards)))
        grader.submit([""], [source[0]]).result()  # does it return outcomes?
        use_compile_cache(config.compile.cache_dir)
        mesh = setup.load_mesh(config, policy.model.config)
        sampler = setup.make_sampler(config, policy.model, policy.eos_ids, mesh)
        claim(config, directory, source, eval_sets)
        for line in what_the_model_sees(policy, source[0]):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        held.pop_all()  # whoever has the run closes the grader
    return Run(
        config=config,
        policy=policy,
        mesh=mesh,
        sampler=sampler,
        grader=divided(grader),
        loader=Loader(source, get(config, batch), config.seed),
        eval_sets=eval_sets,
        directory=directory,
        console=console,
    )


def claim(config: Config, directory: RunDir, source: Source, eval_sets: list[EvalSet]) -> None:
    """Makes the folder the run's, and sees to it that all processes mean the same run.

    Raises:
      UserError: as `RunDir.claim`, a difference between processes, or a folder of one host only.
    """
    own = {
        "--workdir": str(directory.path),
        "the number of training problems": len(source),
        "the first training problem": source[0].text,
    }
    distributed.require_same_work(config, eval_sets, own)
    if processes.is_main():
        directory.claim(config, experiment_flags.as_flagfile(config))
    processes.exchange(None)  # it is there now
    if not directory.config.exists():
        raise UserError(
            f"--workdir={directory.path} is another folder in process {processes.index()} than in process "
            "0: give one on a file system that all hosts share"
        )


def checked_for_contamination(console: Console, config: Config, source: Source) -> Source:
    """Says what training shares with evaluation; without it where --data.drop_contaminated."""
    overlaps = contamination(config, source)
    if overlaps is None:
        return source
    lines = [str(overlap) for overlap in overlaps]
    if not overlaps:
        n = config.data.contamination_ngram
        lines = [
            f"contamination: no training problem shares {n} words in a row with an evaluation problem"
        ]
    if overlaps and config.data.drop_contaminated:
        before, source = len(source), without_overlaps(source, overlaps)
        lines.append(f"--data.drop_contaminated left out {before - len(source)} training problems")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    return source


def report(run: Run) -> None:
    """The table of before and after, what the steps did and cost, and where things lie."""
    for table in tables(run):
        run.console.print(table)
    rows = read_jsonl(run.directory.path / "metrics.jsonl")
    lines = []
    if rows and run.config.train.stage == "rl":
        lines += [
            f"training responses: {count_outcomes(rows, run.config.sequences_per_step)}",
            f"median step: {step_time_split(rows)}",
        ]
    if rows:
        first, last = rows[0]["policy/entropy"], rows[-1]["policy/entropy"]
        lines += [
            f"policy entropy: {first:.3f} at the first step, {last:.3f} at the last (nats per token)",
            f"plots: {plot_run(run.directory.path)[-1].parent}",
        ]
    lines += [f"model: {run.directory.model}"]
    if run.policy.model.lora:
        lines += [f"adapter: {run.directory.adapter}"]
    for line in lines:
        run.console.print(line, soft_wrap=True, highlight=False)


def tables(run: Run) -> list[Table]:
    """Before and after, a table a set; where one is missing, all sets after the last step."""
    steps, ks = run.config.train.steps, run.config.eval.k
    load = partial(store.load, run.directory.evaluations)
    pairs = [(load(0, s.name), load(steps, s.name)) for s in run.eval_sets]
    pairs = [(before, after) for before, after in pairs if after]
    if steps and pairs and all(before for before, _ in pairs):
        return [comparison_table(before, after, ks) for before, after in pairs]
    return evaluation_tables([after for _, after in pairs], ks, run.console.width)


def count_outcomes(rows: list[dict], responses_per_step: int) -> str:
    """How many training responses were graded as what, from rows of metrics.jsonl."""
    fractions = {kind: sum(row[f"reward/{kind}"] for row in rows) for kind in Kind}
    counts = {kind: round(share * responses_per_step) for kind, share in fractions.items()}
    return ", ".join(f"{count} {kind}" for kind, count in counts.items())


def step_time_split(rows: list[dict]) -> str:
    """Medians over the steps; the first, which compiles, hardly moves them."""
    parts = ("rollout", "reward", "update")
    medians = [statistics.median(row[f"time/{part}_s"] for row in rows) for part in parts]
    return ", ".join(f"{part} {s:.3f} s" for part, s in zip(parts, medians, strict=True))


if __name__ == "__main__":
    experiment_flags.run(main)
