"""The host loop of a run: step, record, and now and then evaluate and save. Resumes where it was cut off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from riskpo_jax.data.tokenizers import copy_tokenizer
from riskpo_jax.evaluation import store
from riskpo_jax.evaluation.metrics import pass_at_k
from riskpo_jax.evaluation.result import EvalResult, scalars
from riskpo_jax.models.hf import save_pretrained
from riskpo_jax.reporting.progress import Progress
from riskpo_jax.reporting.run_dir import RunFiles
from riskpo_jax.training import setup
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.training.post_train import post_training_step
from riskpo_jax.training.run import Run
from riskpo_jax.training.state import TrainState
from riskpo_jax.training.warm_start import warm_start_step


def train(run: Run) -> None:
    """Trains until `--train.steps`, from the latest checkpoint in the run's folder if there is one.

    Leaves the final policy in `model/`, a Hugging Face directory.
    """
    config = run.config
    optimizer = setup.make_optimizer(config)
    params = setup.load_or_init_params(config, run.policy, run.mesh)
    state = setup.make_state(config, params, optimizer, run.mesh)
    if config.train.stage == "supervised":
        one_step = warm_start_step(run, optimizer)
    else:
        one_step = post_training_step(run, optimizer, params)
    del params
    checkpoint = config.checkpoint
    with contextlib.closing(
        Checkpoints(run.directory.checkpoints, checkpoint.keep_last, checkpoint.keep_best)
    ) as checkpoints:
        if checkpoints.latest_step() is not None:
            state = checkpoints.restore(like=state)
        start, last = int(state.step), config.train.steps
        announce_resumption(run, start)
        with recording(run, start) as (files, progress):
            evaluate_if_due(run, state, start, files, progress)
            for step in range(start + 1, last + 1):
                state, metrics, records = one_step(state)
                files.metrics.write(step, metrics)
                if step % config.report.samples_every == 0:
                    for record in records:
                        files.samples.write(step, record)
                progress.update(step, metrics)
                result = evaluate_if_due(run, state, step, files, progress)
                if result or step % checkpoint.every == 0 or step == last:
                    checkpoints.save(state, step, result and mean_pass_at_1(result))
    save_model(run, state.params)


def announce_resumption(run: Run, start: int) -> None:
    """Says where a run that was begun before goes on."""
    if start:
        run.console.print(f"continuing after step {start}", highlight=False)
    elif (run.directory.path / "metrics.jsonl").exists():
        every = run.config.checkpoint.every
        run.console.print(
            f"no checkpoint yet (--checkpoint.every={every}): starting over", highlight=False
        )


@contextlib.contextmanager
def recording(run: Run, start: int) -> Iterator[tuple[RunFiles, Progress]]:
    """The run's files, rid of what a killed run left beyond step `start`, and its progress display."""
    store.drop_after(run.directory.evaluations, start)
    with (
        contextlib.closing(RunFiles(run.directory, run.config, start)) as files,
        Progress(run.config.train.steps, start, console=run.console) as progress,
    ):
        yield files, progress


def evaluate_if_due(
    run: Run, state: TrainState, step: int, files: RunFiles, progress: Progress
) -> EvalResult | None:
    """Evaluates at the start, every `--eval.every` steps and at the end; records the rows.

    One that is on disk already (of the step that a resumed run starts from) is read back.
    """
    config, every = run.config, run.config.eval.every
    result = store.load(run.directory.evaluations, step)
    due = step in (0, config.train.steps) or (every and step % every == 0)
    if result is None:
        if run.eval_set is None or not due:
            return None
        progress.print(f"evaluating step {step} on {len(run.eval_set.problems)} problems ...")
        result = setup.evaluate_policy(
            run.policy, run.sampler, run.reward, run.eval_set, state.params, state.key, step
        )
        store.save(run.directory.evaluations, result)
    rows = result.summary(config.eval.k)
    for row in rows:
        files.evals.write(step, row)
    files.curves.write(step, scalars(rows))
    return result


def mean_pass_at_1(result: EvalResult) -> float:
    return float(pass_at_k(result.correct_PxS, 1).mean())


def save_model(run: Run, params: Any) -> None:
    """The policy as a Hugging Face directory, `model/` in the run's folder; the weights come last."""
    policy = run.policy
    copy_tokenizer(Path(run.config.model.path), run.directory.model)
    save_pretrained(
        run.directory.model,
        params,
        policy.model.config,
        generation_config=policy.generation_config or None,
    )
