"""Any task of reasoning-gym (Stojanovski et al., arXiv 2505.24760) as a source; an optional extra.

Disjoint training and evaluation: entry i of a reasoning-gym data set is seeded by `seed + i`, so
neighbouring seeds give nearly the same problems. The sources here derive the task's seed from
(seed, split) by `SeedSequence`, which puts the two splits far apart. Small tasks repeat questions
even so: pass the evaluation source through `without(evaluation, train)` to drop those.
"""

from __future__ import annotations

import difflib
from types import ModuleType

import numpy as np

from riskpo_jax.data.problem import Problem, Source, Subset
from riskpo_jax.errors import UserError

SPLITS = ("train", "eval")


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
    """`size` problems of the task `task`, generated on access.

    `options` are the settings of the task's own configuration. `metadata` has the task and its
    whole `entry`, which `riskpo_jax.rewards.reasoning_gym` scores with the task's own scorer.

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
            self._entries = library.create_dataset(
                task, size=size, seed=int(entropy[0] >> 1), **options
            )
        except (TypeError, ValueError, AssertionError) as error:
            raise UserError(f"reasoning-gym task {task!r}: {error}") from error

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(index)
        entry = self._entries[index]
        return Problem(
            id=f"{self.task}-{self.split}-{self.seed}-{index}",
            text=entry["question"],
            answer=str(entry["answer"]),
            dataset=f"reasoning_gym/{self.task}",
            metadata={"task": self.task, "entry": entry},
            reward="reasoning_gym",
        )


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
