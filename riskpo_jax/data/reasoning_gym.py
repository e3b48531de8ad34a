"""Any task of reasoning-gym (Stojanovski et al., arXiv 2505.24760) as a source; an optional extra.

Disjoint training and evaluation: entry i of a reasoning-gym data set is seeded by `seed + i`, so
neighbouring seeds give nearly the same problems. The sources here derive the task's seed from
(seed, split) by `SeedSequence`, which puts the two splits far apart. Small tasks repeat questions
even so: pass the evaluation source through `without(evaluation, train)` to drop those.
"""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import numpy as np

from riskpo_jax.data.problem import Problem, Source, Subset
from riskpo_jax.errors import UserError

SPLITS = ("train", "eval")
# A run reads all training problems twice before its first step (for repeats, for lengths), and some
# tasks search for milliseconds; an entry is a few KB.
_REMEMBERED = 2**15


def import_reasoning_gym() -> ModuleType:
    """The library, or a UserError that says how to install it."""
    try:
        import reasoning_gym
    except ImportError as error:
        raise UserError(
            f"reasoning-gym tasks need an optional package ({error}): "
            "pip install 'riskpo_jax[reasoning-gym]'"
        ) from error
    return reasoning_gym


class ReasoningGymSource:
    """`size` problems of the task `task`, generated on access; the last read ones are remembered.

    `options` are the settings of the task's own configuration. `metadata` has the task and its
    whole `entry`, which `riskpo_jax.rewards.reasoning_gym` scores with the task's own scorer; what
    the entry says of itself and can be shown in a prompt (see `shown`); and, where the entry's answer
    is a text to which that scorer gives 1, this text as `solution`. Some tasks have a `solution` of
    their own, in no form that is scored: it is left out.

    Raises UserError when the package is missing, the task unknown (naming close matches) or an
    option wrong.
    """

    def __init__(self, task: str, seed: int, split: str, size: int, **options: object):
        library = import_reasoning_gym()
        if split not in SPLITS:
            raise UserError(
                f"reasoning-gym: unknown split {split!r}, use one of {', '.join(SPLITS)}"
            )
        if size < 1:
            raise UserError(
                f"reasoning-gym: the size of the {split} set is {size}, it must be at least 1"
            )
        _check_known(task, library.factory.DATASETS)
        entropy = np.random.SeedSequence([seed, SPLITS.index(split)]).generate_state(1)
        self.task, self.seed, self.split = task, seed, split
        try:
            entries = library.create_dataset(task, size=size, seed=int(entropy[0] >> 1), **options)
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"reasoning-gym task {task!r}: {error}") from error
        self._size, self._score = len(entries), entries.score_answer
        self._entry = lru_cache(_REMEMBERED)(entries.__getitem__)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(index)
        entry = self._entry(index)
        about = {key: value for key, value in entry["metadata"].items() if key != "solution"}
        return Problem(
            id=f"{self.task}-{self.split}-{self.seed}-{index}",
            text=entry["question"],
            answer=str(entry["answer"]),
            dataset=f"reasoning_gym/{self.task}",
            metadata={
                **shown(about),
                **_solution(entry, self._score),
                "task": self.task,
                "entry": entry,
            },
            reward="reasoning_gym",
        )


def parse_options(options: Sequence[str]) -> dict[str, bool | int | float | str]:
    """The settings of a task from "name=value" and the like: true, false, numbers and texts.

    Raises UserError for what is not such a pair, a name that comes twice and those that the source sets.
    """
    parsed: dict[str, bool | int | float | str] = {}
    for option in options:
        name, equals, text = option.partition("=")
        if not (name.isidentifier() and equals) or name in {"seed", "size", *parsed}:
            raise UserError(
                f"--data.task_options: {option!r} must be NAME=VALUE, each NAME once and a setting of the "
                "task's own; --data.size and --seed are the run's"
            )
        parsed[name] = _value(text)
    return parsed


def _value(text: str) -> bool | int | float | str:
    if text in ("true", "false"):
        return text == "true"
    for number in (int, float):
        with contextlib.suppress(ValueError):
            return number(text)
    return text


def shown(values: Mapping[str, Any]) -> dict[str, str | float]:
    """Those of `values` that a prompt can show, under their keys.

    Texts and numbers as they are, lists of them with spaces between, and lists of such lists with a
    line for each.
    """
    texts = {key: _text(value, separators=(" ", "\n")) for key, value in values.items()}
    return {key: text for key, text in texts.items() if text is not None}


def _text(value: Any, separators: Sequence[str]) -> str | float | None:
    """`value` as `shown` writes it, a list inside as many others as there are `separators` at most."""
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, (str, int, float)):
        return value
    if not isinstance(value, (list, tuple)) or not separators:
        return None
    nested = any(isinstance(item, (list, tuple)) for item in value)
    items = [_text(item, separators[:-1]) for item in value]
    return None if None in items else separators[nested].join(map(str, items))


def _solution(entry: Mapping[str, Any], score: Callable[[str, Any], float]) -> dict[str, str]:
    answer = entry["answer"]
    try:  # to generate an entry costs more than to score its own answer
        right = isinstance(answer, str) and score(answer, entry) >= 1.0
    except Exception:  # noqa: BLE001 - the scorers are many; one that fails here has no solution
        right = False
    return {"solution": answer} if right else {}


def without(source: Source, other: Source) -> Subset:
    """The problems of `source` whose text does not occur in `other`. Generates all of both once."""
    seen = {other[i].text for i in range(len(other))}
    kept = [i for i in range(len(source)) if source[i].text not in seen]
    if not kept:
        raise UserError(
            "every evaluation problem occurs in training: use a task with more distinct problems"
        )
    return Subset(source, kept)


def _check_known(task: str, tasks: dict[str, object]) -> None:
    if task not in tasks:
        close = difflib.get_close_matches(task, tasks, n=5) or sorted(tasks)[:5]
        raise UserError(f"reasoning-gym has no task {task!r}; close names: {', '.join(close)}")
