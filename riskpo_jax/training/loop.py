"""The host loop of a run: step, record, and now and then evaluate and save. Resumes where it was cut off."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from riskpo_jax import processes
from riskpo_jax.compilation import CompileCounter
from riskpo_jax.data.tokenizers import READ_OTHERWISE
from riskpo_jax.device_memory import STEP_REMEDY, explained
from riskpo_jax.evaluation import store
from riskpo_jax.evaluation.metrics import pass_at_k
from riskpo_jax.evaluation.result import EvalResult, scalars
from riskpo_jax.files import replacing_folder
from riskpo_jax.models import hf, lora, peft
from riskpo_jax.reporting.progress import Progress
from riskpo_jax.reporting.run_dir import RunFiles
from riskpo_jax.sharding import fetch
from riskpo_jax.training import rehearsal, setup, weights
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.training.model_directory import write_model
from riskpo_jax.training.post_train import post_training_step
from riskpo_jax.training.run import Run
from riskpo_jax.training.state import TrainState
from riskpo_jax.training.train_step import make_policy_update
from riskpo_jax.training.warm_start import warm_start_step


def train(run: Run) -> None:
    """Trains until `--train.steps`, from the latest checkpoint in the run's folder if there is one.

    Leaves the final policy in `model/`, a Hugging Face directory, and adapters in `adapter/`, too.
    """
    config = run.config
    optimizer = setup.make_optimizer(config)
    checkpoint = config.checkpoint
    with (
        explained("the run", STEP_REMEDY),
        contextlib.closing(CompileCounter()) as compiled,
        contextlib.closing(
            Checkpoints(run.directory.checkpoints, checkpoint.keep_last, checkpoint.keep_best)
        ) as checkpoints,
    ):
        frozen, state, reference = begin(run, optimizer, checkpoints)
        if config.train.stage == "supervised":
            one_step = warm_start_step(run, optimizer, frozen)
        else:
            update = make_policy_update(config, run.policy.model, optimizer, run.mesh)
            if rehearsal.is_due(config, run.mesh):
                rehearsal.rehearse(run, update, frozen, state, reference)
            one_step = post_training_step(run, update, frozen, reference)
        start, last = int(state.step), config.train.steps
        announce_resumption(run, start)
        with recording(run, start) as (files, progress):
            evaluate_if_due(run, frozen, state, start, files, progress)
            for step in range(start + 1, last + 1):
                before = compiled.count
                state, metrics, records = one_step(state)
                metrics["compile/count"] = float(compiled.count - before)
                files.metrics.write(step, metrics)
                if step % config.report.samples_every == 0:
                    for record in records:
                        files.samples.write(step, record)
                progress.update(step, metrics)
                results = evaluate_if_due(run, frozen, state, step, files, progress)
                if results or step % checkpoint.every == 0 or step == last:
                    checkpoints.save(state, step, mean_pass_at_1(results) if results else None)
    save_policy(run, frozen, state.params)


def begin(
    run: Run, optimizer: optax.GradientTransformation, checkpoints: Checkpoints
) -> tuple[Any, TrainState, Any]:
    """What stays frozen, the state to go on from, and the KL penalty's reference (None without).

    Weights are read where they are used: a resumed run reads its checkpoint right into place, and the
    initial policy beside it only to be the reference.
    """
    config, parts = run.config, (run.config, run.policy, run.mesh)
    resumed = checkpoints.latest_step() is not None
    penalised = config.train.stage == "rl" and config.algorithm.kl_coef > 0
    frozen = weights.load_frozen(*parts)
    initial = weights.load_trained(*parts) if penalised or not resumed else None
    if resumed:
        params = weights.trained_shapes(run.policy.model, run.mesh)
        like = setup.state_shapes(config, params, optimizer, run.mesh)
        return frozen, checkpoints.restore(like), initial
    # A copy, because the state that holds the originals is donated.
    reference = jax.tree.map(jnp.copy, initial) if penalised else None
    return frozen, setup.make_state(config, initial, optimizer, run.mesh), reference


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
    """The run's files, rid of what a killed run left beyond step `start`, and its progress display.

    The main process writes them; in the others what they are given goes nowhere.
    """
    files = RunFiles()
    if processes.is_main():
        store.drop_after(run.directory.evaluations, start)
        files = RunFiles.open(run.directory, run.config, start)
    with (
        contextlib.closing(files),
        Progress(run.config.train.steps, start, console=run.console) as progress,
    ):
        yield files, progress


def evaluate_if_due(
    run: Run, frozen: Any, state: TrainState, step: int, files: RunFiles, progress: Progress
) -> list[EvalResult]:
    """Evaluates at the start, every `--eval.every` steps and at the end; records the rows of each set.

    What is on disk already (of the step that a resumed run starts from) is read back.
    """
    config, every = run.config, run.config.eval.every
    due = step in (0, config.train.steps) or (every and step % every == 0)
    results = []
    for eval_set in run.eval_sets:
        result = kept_evaluation(run, step, eval_set.name)
        if result is None and due:
            count = len(eval_set.problems)
            progress.print(f"evaluating step {step} on {count} problems of {eval_set.name} ...")
            evaluator = setup.make_evaluator(run.policy, run.sampler, run.grader, state.key)
            result = evaluator.evaluate(lora.join(frozen, state.params), eval_set, step)
            if processes.is_main():
                store.save(run.directory.evaluations, result)
        if result:
            results.append(result)
    rows = [row for result in results for row in result.summary(config.eval.k)]
    for row in rows:
        files.evals.write(step, row)
    if rows:
        files.curves.write(step, scalars(rows))
    return results


def kept_evaluation(run: Run, step: int, name: str) -> EvalResult | None:
    """One that is on disk already. The main process, which writes there, says for all whether it is."""
    folder = run.directory.evaluations
    if processes.from_main(lambda: store.path_of(folder, step, name).exists()):
        return store.load(folder, step, name)
    return None


def mean_pass_at_1(results: Sequence[EvalResult]) -> float:
    """The mean over the sets, of which each counts the same."""
    return float(np.mean([pass_at_k(result.correct_PxS, 1).mean() for result in results]))


def save_policy(run: Run, frozen: Any, trained: Any) -> None:
    """The whole policy in `model/`; what are adapters goes to `adapter/` as well, in PEFT's format.

    The main process writes, and the others hand it the parts that they hold. The last use of `frozen`:
    the merged model takes its place.
    """
    model = run.policy.model
    if model.lora:
        adapters = fetch(trained)
        if processes.is_main():
            base = run.config.model.path
            peft.save_adapters(run.directory.adapter, adapters, model.config, model.lora, base)
    params = weights.merged(model, frozen, trained)
    if not processes.is_main():
        hf.hand_over(params, model.config)
        return
    with replacing_folder(run.directory.model) as folder:
        alike = write_model(folder, run.policy, params)
    if not alike:
        run.console.print(f"{run.directory.model}: {READ_OTHERWISE}", highlight=False)
