"""The training and evaluation problems that a configuration names."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from riskpo_jax.config import Config
from riskpo_jax.data.contamination import Overlap, find_overlaps
from riskpo_jax.data.countdown import CountdownSource
from riskpo_jax.data.filters import keep
from riskpo_jax.data.hf_datasets import HubSource
from riskpo_jax.data.jsonl import JsonlSource
from riskpo_jax.data.mixture import Mixture
from riskpo_jax.data.named import NAMED, absent, read_named
from riskpo_jax.data.problem import Source, Subset
from riskpo_jax.data.reasoning_gym import ReasoningGymSource, parse_options, without
from riskpo_jax.data.rows import parse_columns
from riskpo_jax.data.specs import PROCEDURAL, Spec, parse_spec
from riskpo_jax.data.tfds_source import TfdsSource, prepared_split
from riskpo_jax.errors import UserError

# Of procedural evaluation sets: the same problems for every training seed.
EVALUATION_SEED = 1_000_003
EVALUATED_PER_LEVEL = 100  # problems of a procedural set, unless --eval.problems says otherwise


def make_train_source(config: Config) -> Source:
    """Training problems of `config.data`, those that its filters keep.

    Raises:
      UserError: a missing, empty or malformed file, an unknown set or task, ranges that hold no problem,
        or filters that leave none.
    """
    data = config.data
    if data.source == "jsonl":
        source = JsonlSource(*data.path, columns=parse_columns(data.columns))
    else:
        parts = tuple(_train_part(spec, config) for spec in train_specs(config))
        mixed = len(parts) > 1
        source = Mixture(parts, data.weights or None) if mixed else parts[0]
    return keep(source, data.keep_levels, data.max_problem_chars)


def make_eval_sources(config: Config, drawn: bool = True) -> dict[str, Source]:
    """Evaluation problems by the name of their set, disjoint from the training ones where we draw both.

    Those of `--eval.datasets` and `--data.eval_path`, or else of the procedural source that training
    has. Empty when there are none. `--eval.problems` are the first of a file, or drawn a level.
    drawn: False leaves procedural sets out.

    Raises:
      UserError: as `make_train_source`, and for two sets of one name.
    """
    specs = [spec for spec in eval_specs(config) if drawn or spec.kind not in PROCEDURAL]
    sources = [_eval_source(spec, config) for spec in specs]
    if config.data.eval_path:
        columns = parse_columns(config.data.columns)
        sources.append(_first(JsonlSource(config.data.eval_path, columns=columns), config))
    named: dict[str, Source] = {}
    for source in sources:
        if (name := source[0].dataset) in named:
            raise UserError(f"two evaluation sets are called {name}: leave out or rename one")
        named[name] = source
    return named


def contamination(config: Config, train: Source) -> list[Overlap] | None:
    """What `train`, made of this configuration, shares with the evaluation sets (see `find_overlaps`).

    None where there is nothing to compare: the check is off, nothing is evaluated, or all is drawn.
    """
    specs = train_specs(config)
    if not config.data.contamination_ngram or (specs and all(s.kind in PROCEDURAL for s in specs)):
        return None
    # Whole sets, whatever part of them the run looks at.
    whole = dataclasses.replace(config, eval=dataclasses.replace(config.eval, problems=None))
    evaluations = make_eval_sources(whole, drawn=False)
    return (
        find_overlaps(train, evaluations, config.data.contamination_ngram) if evaluations else None
    )


def rewards_named(config: Config, training: bool = True) -> set[str]:
    """The rewards that the problems of a configuration name, known before any of them is loaded.

    training: False where nothing but the evaluation sets is used.

    Raises:
      UserError: problems that name none under --reward.name=auto, or need another than --reward.name.
    """
    rewards = set()
    for flag, text, reward in _own_rewards(config, training):
        if not reward and config.reward.name == "auto":
            raise UserError(
                f"--{flag}: {text} names no reward: give --reward.name (math, code, or your own as "
                "package.module:function)"
            )
        _check_given(config.reward.name, f"--{flag}: {text}", reward)
        rewards |= {reward} - {""}
    return rewards


def train_specs(config: Config) -> list[Spec]:
    """The sets to train on; none for the files of source jsonl."""
    data = config.data
    if data.source == "jsonl":
        return []
    if data.source == "sets":
        return [parse_spec(text, "data.sets") for text in data.sets]
    return [Spec(data.source, (data.task,) if data.source == "reasoning_gym" else ())]


def eval_specs(config: Config) -> list[Spec]:
    """The sets to evaluate on, but for --data.eval_path."""
    if config.eval.datasets:
        return [parse_spec(text, "eval.datasets") for text in config.eval.datasets]
    drawn = config.data.source in PROCEDURAL and not config.data.eval_path
    return train_specs(config) if drawn else []


def _own_rewards(config: Config, training: bool) -> list[tuple[str, str, str]]:
    """(flag, how the set is called there, the reward that it names) of every set."""
    data = config.data
    flag = "data.sets" if data.source == "sets" else "data.source"
    found = [(flag, str(spec), spec.reward) for spec in train_specs(config) if training]
    if training and data.source == "jsonl":
        found += [("data.path", path, "") for path in data.path]
    if config.eval.datasets:
        found += [("eval.datasets", str(spec), spec.reward) for spec in eval_specs(config)]
    elif not training:
        found += [("data.source", str(spec), spec.reward) for spec in eval_specs(config)]
    return found + [("data.eval_path", path, "") for path in [data.eval_path] if path]


def _check_given(given: str, place: str, own: str) -> None:
    """Refuses a reward of ours that cannot grade problems whose own is another."""
    blind = {*PROCEDURAL, "code"}  # they read metadata that others' problems do not have
    not_by_math = ("code", "countdown")  # no answer, and one that the prompt gives away
    if own and given != own and (given in blind or (given == "math" and own in not_by_math)):
        raise UserError(
            f"{place} is graded by {own}, not by --reward.name={given}: leave --reward.name out"
        )


def _train_part(spec: Spec, config: Config) -> Source:
    data = config.data
    if spec.kind == "reasoning_gym":
        return _reasoning_gym(spec, config, config.seed, "train", data.size)
    if spec.kind == "countdown":
        return _countdown(spec, config, config.seed, "train", data.size)
    return _finite(spec, config)


def _eval_source(spec: Spec, config: Config) -> Source:
    wanted = config.eval.problems or EVALUATED_PER_LEVEL
    if spec.kind == "reasoning_gym":
        source = _reasoning_gym(spec, config, EVALUATION_SEED, "eval", wanted)
        # What training draws of the same task; it may repeat questions of a small one.
        same = [_train_part(other, config) for other in train_specs(config) if other == spec]
        return without(source, same[0]) if same else source
    if spec.kind == "countdown":
        return _countdown(spec, config, EVALUATION_SEED, "eval", wanted)
    return _first(_finite(spec, config), config)


def _reasoning_gym(
    spec: Spec, config: Config, seed: int, split: str, size: int
) -> ReasoningGymSource:
    """`--data.task_options` are of `--data.task`, wherever that is drawn."""
    (task,), data = spec.what, config.data
    options = parse_options(data.task_options) if task == data.task else {}
    return ReasoningGymSource(task, seed, split, size, **options)


def _countdown(spec: Spec, config: Config, seed: int, split: str, size: int) -> Source:
    """size: problems of the training set, or of each level of the evaluation set."""
    data = config.data
    levels = spec.what or data.levels
    return CountdownSource(
        seed,
        split,
        size * (len(levels) if split == "eval" else 1),
        levels,
        max_number=data.max_number,
        max_target=data.max_target,
    )


def _finite(spec: Spec, config: Config) -> Source:
    """The problems of a set that is read."""
    columns, folder = parse_columns(config.data.columns), Path(config.data.folder)
    if spec.kind == "jsonl":
        return JsonlSource(*spec.what, columns=columns)
    if spec.kind == "tfds":
        name, *split = spec.what
        return TfdsSource(name, split[0] if split else "train", folder)
    if spec.kind == "datasets":
        where, *between, split = spec.what if len(spec.what) > 1 else (*spec.what, "train")
        return HubSource(where, between[0] if between else None, split, columns)
    named = NAMED[spec.what[0]]
    if absent(named, folder) and (split := prepared_split(named, folder)):
        return TfdsSource(*split, folder)
    return read_named(named, folder)


def _first(source: Source, config: Config) -> Source:
    wanted = config.eval.problems
    return source if wanted is None else Subset(source, range(min(wanted, len(source))))
