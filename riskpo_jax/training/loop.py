"""The host loop of a run: step, record, and now and then evaluate and save. Resumes where it was cut off."""

from __future__ import annotations

from typing import Any

from riskpo_jax.evaluation import store
from riskpo_jax.evaluation.evaluator import evaluate
from riskpo_jax.evaluation.metrics import pass_at_k
from riskpo_jax.evaluation.result import EvalResult, scalars
from riskpo_jax.models.hf import save_pretrained
from riskpo_jax.reporting.progress import Progress
from riskpo_jax.reporting.run_dir import RunFiles
from riskpo_jax.training import setup
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.training.post_train import post_training_step
from riskpo_jax.training.run import Run
from riskpo_jax.training.state import Purpose, TrainState, purpose_key
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
    checkpoints = Checkpoints(
        run.directory.checkpoints, config.checkpoint.keep_last, config.checkpoint.keep_best
    )
    if checkpoints.latest_step() is not None:
        state = checkpoints.restore(like=state)
    start, last = int(state.step), config.train.steps
    store.drop_after(run.directory.evaluations, start)
    files = RunFiles(run.directory, config, start)
    with Progress(last, start, console=run.console) as progress:
        evaluate_if_due(run, state, start, files, progress)
        for step in range(start + 1, last + 1):
            state, metrics, records = one_step(state)
            files.metrics.write(step, metrics)
            if step % config.report.samples_every == 0:
                for record in records:
                    files.samples.write(step, record)
            progress.update(step, metrics)
            result = evaluate_if_due(run, state, step, files, progress)
            if step % config.checkpoint.every == 0 or step == last:
                checkpoints.save(state, step, result and mean_pass_at_1(result))
    checkpoints.close()
    files.close()
    save_model(run, state.params)


def evaluate_if_due(
    run: Run, state: TrainState, step: int, files: RunFiles, progress: Progress
) -> EvalResult | None:
    """Evaluates at the start, every `--eval.every` steps and at the end; records the rows.

    One that is on disk already (of the step that a resumed run starts from) is read back.
    """
    config, every = run.config, run.config.eval.every
    due = step in (0, config.train.steps) or (every and step % every == 0)
    if run.eval_set is None or not due:
        return None
    result = store.load(run.directory.evaluations, step)
    if result is None:
        progress.print(f"evaluating step {step} on {len(run.eval_set.problems)} problems ...")
        result = evaluate_policy(run, state, step)
        store.save(run.directory.evaluations, result)
    rows = result.summary(config.eval.k)
    for row in rows:
        files.evals.write(step, row)
    files.curves.write(step, scalars(rows))
    return result


def evaluate_policy(run: Run, state: TrainState, step: int) -> EvalResult:
    """The policy on the evaluation set; every evaluation of a run draws with the same key."""
    config = run.config
    return evaluate(
        run.sampler,
        state.params,
        purpose_key(state.key, Purpose.EVALUATION, 0),
        run.eval_set.problems,
        run.eval_set.prompts,
        tokenizer=run.policy.tokenizer,
        reward=run.reward,
        sampling=setup.eval_sampling(config),
        samples=config.eval.samples,
        batch_size=config.eval.batch_size,
        dataset=run.eval_set.name,
        step=step,
    )


def mean_pass_at_1(result: EvalResult) -> float:
    return float(pass_at_k(result.correct_PxS, 1).mean())


def save_model(run: Run, params: Any) -> None:
    """The policy as a Hugging Face directory, `model/` in the run's folder."""
    policy = run.policy
    save_pretrained(
        run.directory.model,
        params,
        policy.model.config,
        generation_config=policy.generation_config or None,
    )
    policy.tokenizer.save_pretrained(run.directory.model)
