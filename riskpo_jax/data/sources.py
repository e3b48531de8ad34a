"""The training and evaluation problems that a configuration names."""

from __future__ import annotations

from riskpo_jax.config import Config
from riskpo_jax.data.countdown import CountdownSource
from riskpo_jax.data.jsonl import JsonlSource
from riskpo_jax.data.problem import Source, Subset
from riskpo_jax.data.reasoning_gym import ReasoningGymSource, without

# Of procedural evaluation sets: the same problems for every training seed.
EVALUATION_SEED = 1_000_003


def make_train_source(config: Config) -> Source:
    """Training problems of `config.data`.

    Raises:
      UserError: a missing, empty or malformed file, an unknown task, or ranges that hold no problem.
    """
    data = config.data
    if data.source == "jsonl":
        return JsonlSource(*data.path)
    if data.source == "reasoning_gym":
        return ReasoningGymSource(data.task, config.seed, "train", data.size)
    return CountdownSource(
        config.seed,
        "train",
        data.size,
        data.levels,
        max_number=data.max_number,
        max_target=data.max_target,
    )


def make_eval_sources(config: Config) -> dict[str, Source]:
    """Evaluation problems by the name of their set; empty when there is nothing to evaluate on.

    Raises:
      UserError: as `make_train_source`.
    """
    if config.eval.datasets:
        files = [name.removeprefix("jsonl:") for name in config.eval.datasets]
        sources = [JsonlSource(file) for file in files]
        return {source[0].dataset: source for source in sources}
    source = make_eval_source(config)
    return {source[0].dataset: source} if source else {}


def make_eval_source(config: Config) -> Source | None:
    """Evaluation problems, disjoint from the training ones where we make both; None when there are none.

    Raises:
      UserError: as `make_train_source`.
    """
    data, wanted = config.data, config.eval.problems
    if data.source == "jsonl":
        if not data.eval_path:
            return None
        source = JsonlSource(data.eval_path)
        return Subset(source, range(min(wanted, len(source))))
    if data.source == "reasoning_gym":
        source = ReasoningGymSource(data.task, EVALUATION_SEED, "eval", wanted)
        return without(source, make_train_source(config))
    return CountdownSource(
        EVALUATION_SEED,
        "eval",
        wanted * len(data.levels),
        data.levels,
        max_number=data.max_number,
        max_target=data.max_target,
    )
