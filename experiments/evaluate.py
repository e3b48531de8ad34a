"""Evaluates a model: `python -m experiments.evaluate --model=DIR_OR_CHECKPOINT --datasets=math500,aime24`.

--model is a Hugging Face directory, a run's folder (its latest checkpoint) or RUN/checkpoints/N. Of a run
all settings are the defaults, its evaluation problems, too. Every response is kept in --output; the same
command again goes on where it was cut off. --regrade=DIR grades the responses in DIR again, without the
model. docs/evaluation.md says more.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from jax.sharding import Mesh
from rich.console import Console

from experiments import distributed
from experiments import flags as experiment_flags
from experiments.preview import what_the_model_sees
from experiments.regrade import regrade_folder
from riskpo_jax import processes
from riskpo_jax.compile_cache import use_compile_cache
from riskpo_jax.data.sources import rewards_named
from riskpo_jax.device_memory import ROLLOUT_REMEDY, explained
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.evaluator import EvalSet, Evaluator
from riskpo_jax.evaluation.regrade import by_id
from riskpo_jax.evaluation.responses import Response, lines_of, responses_by_problem
from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.evaluation.table import evaluation_tables
from riskpo_jax.models import lora
from riskpo_jax.reporting.evaluation_dir import EvaluationDir, ResponseWriter
from riskpo_jax.reporting.progress import Progress
from riskpo_jax.rewards.divided import divided
from riskpo_jax.rewards.registry import make_grader
from riskpo_jax.training import setup, weights
from riskpo_jax.training.checkpoints import Checkpoints
from riskpo_jax.training.evaluation import evaluation_config, fit_prompts
from riskpo_jax.training.source import Source, at_step, find_source

flags.adopt_module_key_flags(experiment_flags)  # so that --help lists them
flags.adopt_module_key_flags(distributed)
_MODEL = flags.DEFINE_string(
    "model", None, "A run's folder, RUN/checkpoints/N, or a Hugging Face model directory."
)
_OUTPUT = flags.DEFINE_string(
    "output", None, "Folder for responses and results; by default evaluations/<model's name>."
)
_REGRADE = flags.DEFINE_string(
    "regrade", None, "Folder of an evaluation whose responses to grade again, without the model."
)
for _short in ("datasets", "samples", "k"):
    flags.DEFINE_alias(_short, f"eval.{_short}")

FIELDS = (("set", "dataset", "s"), ("responses/s", "responses_per_s", ".1f"))


def main() -> None:
    if not _REGRADE.value:
        with distributed.together():
            evaluate(Console(quiet=not processes.is_main()))
        return
    for flag in (_MODEL, _OUTPUT, distributed.COORDINATOR):
        if flag.value:
            raise UserError(
                f"--{flag.name} contradicts --regrade, which needs no model and no devices: leave it out"
            )
    regrade_folder(Path(_REGRADE.value), Console())


def evaluate(console: Console) -> None:
    """What can fail without a device fails first, before the folder is claimed."""
    given = experiment_flags.given_settings()
    path = experiment_flags.required_path(_MODEL)
    source = at_step(find_source(path, given.get("model.path"), _MODEL.name))
    name, title = names_of(source, path)
    directory = EvaluationDir(_OUTPUT.value or Path("evaluations") / title)
    config, open_length = evaluation_config(source, given)
    rewards = rewards_named(config, training=False)
    policy = setup.load_policy(config, source.needs_weights)
    if open_length:
        policy = fit_prompts(policy)
        config = policy.config
    if processes.is_main():
        directory.check(name, config)
    eval_sets, skipped = setup.load_eval_sets(config, policy)
    if not eval_sets:
        raise UserError("there is nothing to evaluate on: give --datasets or --data.eval_path")
    for eval_set in eval_sets:
        by_id(eval_set.problems, eval_set.name)  # raises for what could not be graded again
    with contextlib.closing(make_grader(config.reward, rewards)) as grader:
        use_compile_cache(config.compile.cache_dir)
        mesh = setup.load_mesh(config, policy.model.config)
        distributed.require_same_work(config, eval_sets, {"the model": name})
        if processes.is_main():
            directory.claim(name, config)
        for dataset, count in skipped.items():
            setup.print_skipped(console, config, count, dataset)
        for line in what_is_asked(source, policy, eval_sets):
            console.print(line, soft_wrap=True, highlight=False, markup=False)
        key_data = jax.random.key_data(jax.random.key(config.seed))
        sampler = setup.make_sampler(config, policy.model, policy.eos_ids, mesh)
        evaluator = setup.make_evaluator(policy, sampler, divided(grader), key_data)
        load = partial(load_params, source, policy, mesh)
        results = complete(directory, evaluator, eval_sets, load, source.step or 0, console)
    if not processes.is_main():
        return
    rows = [row for result in results for row in result.summary(config.eval.k)]
    directory.write(name, config, rows)
    for table in evaluation_tables(results, config.eval.k, console.width):
        console.print(table)
    console.print(f"results and responses: {directory.path}", soft_wrap=True, highlight=False)


def names_of(source: Source, path: Path) -> tuple[str, str]:
    """What is evaluated, in full and as the name of a folder."""
    place = path.resolve()
    if source.run is None:
        return str(place), place.name
    run = source.run.path.resolve()
    return str(run / "checkpoints" / str(source.step)), f"{run.name}-{source.step}"


def what_is_asked(source: Source, policy: setup.Policy, eval_sets: Sequence[EvalSet]) -> list[str]:
    """The model, a prompt as it sees it, and what limits it."""
    data, rollout, asked = policy.config.data, policy.config.rollout, policy.config.eval
    slots = rollout.slots or policy.config.sequences_per_step
    cache = slots * rollout.max_response_length * cache_bytes_per_token(policy)
    model = f"{policy.config.model.path} as it is"
    if source.run:
        model = f"step {source.step} of {source.run.path}"
    sets = ", ".join(f"{len(s.problems)} of {s.name}" for s in eval_sets)
    return [
        f"evaluating {model} on {sets}",
        *what_the_model_sees(policy, eval_sets[0].problems[0]),
        f"chat template: {data.chat_template}; at most {data.max_prompt_length} tokens of prompt and "
        f"{rollout.max_response_length} of response",
        f"{asked.samples} responses to each; up to {slots} at the same time (--rollout.slots) have a KV "
        f"cache of {cache / 1e9:.3g} GB",
    ]


def cache_bytes_per_token(policy: setup.Policy) -> int:
    """Keys and values of all layers, in the type that they are kept in; int8 without its scales."""
    shape, dtype = policy.model.config, policy.config.rollout.kv_cache_dtype
    values = 2 * shape.num_layers * shape.num_kv_heads * shape.head_dim
    return values * jnp.dtype(policy.model.dtype if dtype == "compute" else dtype).itemsize


def explained_batches(evaluator: Evaluator, *args) -> Iterator[list[list[Response]]]:
    """`evaluator.batches`, whose running out of memory is one line."""
    with explained("the evaluation", ROLLOUT_REMEDY):
        yield from evaluator.batches(*args)


def complete(
    directory: EvaluationDir,
    evaluator: Evaluator,
    eval_sets: Sequence[EvalSet],
    load: Callable[[], Any],
    step: int,
    console: Console,
) -> list[EvalResult]:
    """Evaluates what is not in the folder yet; the weights are loaded only if something is missing.

    The main process keeps the responses and has the results; the others return none.
    """
    with contextlib.ExitStack() as opened:
        writers, kept = [], [[] for _ in eval_sets]
        if processes.is_main():
            writers = [
                opened.enter_context(contextlib.closing(open_responses(directory, evaluator, s)))
                for s in eval_sets
            ]
            kept = [
                kept_responses(writer, eval_set, evaluator.samples)
                for writer, eval_set in zip(writers, eval_sets, strict=True)
            ]
        counts = processes.from_main(lambda: [len(responses) for responses in kept])
        total, already = sum(len(s.problems) for s in eval_sets), sum(counts)
        if already:
            console.print(f"{already} of {total} problems are done already", highlight=False)
        params = load() if already < total else None
        done, began = already, time.perf_counter()
        shown = {"unit": "problems", "fields": FIELDS, "plain_fields": FIELDS, "interval": 1}
        with Progress(total, already, console=console, **shown) as progress:
            for i, eval_set in enumerate(eval_sets):
                for batch in explained_batches(evaluator, params, eval_set, counts[i]):
                    if processes.is_main():
                        problems = eval_set.problems[len(kept[i]) : len(kept[i]) + len(batch)]
                        writers[i].append(lines_of(problems, batch))
                        kept[i] += batch
                    done += len(batch)
                    rate = (done - already) * evaluator.samples / (time.perf_counter() - began)
                    progress.update(done, {"dataset": eval_set.name, "responses_per_s": rate})
    pairs = zip(eval_sets, kept, strict=True) if processes.is_main() else ()
    return [evaluator.result(eval_set, responses, step) for eval_set, responses in pairs]


def open_responses(
    directory: EvaluationDir, evaluator: Evaluator, eval_set: EvalSet
) -> ResponseWriter:
    """The file of a set, cut back to whole batches."""
    samples = evaluator.samples
    return ResponseWriter(
        directory.responses(eval_set.name),
        batch=evaluator.batch_size * samples,
        total=len(eval_set.problems) * samples,
    )


def kept_responses(writer: ResponseWriter, eval_set: EvalSet, samples: int) -> list[list[Response]]:
    """What is in the file already.

    Raises:
      UserError: lines that are no responses, or responses to other problems.
    """
    grouped = responses_by_problem(writer.rows, samples, str(writer.path))
    for (found, _), problem in zip(grouped, eval_set.problems, strict=False):
        if found != problem.id:
            raise UserError(
                f"{writer.path} goes on with problem {found!r} where {eval_set.name} has "
                f"{problem.id!r}: the data have changed, give another --output"
            )
    return [responses for _, responses in grouped]


def load_params(source: Source, policy: setup.Policy, mesh: Mesh) -> Any:
    """The weights of a directory, or of a run's checkpoint with its adapters beside the base.

    Raises:
      UserError: a checkpoint that does not fit the model.
    """
    if source.run is None:
        return weights.load_base(policy.config, policy, mesh)
    like = weights.trained_shapes(policy.model, mesh)
    folder = source.run.checkpoints
    with contextlib.closing(Checkpoints(folder, read_only=True)) as checkpoints:
        trained = checkpoints.restore_params(like, source.step)
    return lora.join(weights.load_frozen(policy.config, policy, mesh), trained)


if __name__ == "__main__":
    experiment_flags.run(main)
