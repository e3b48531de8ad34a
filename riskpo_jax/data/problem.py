"""A problem with a verifiable answer, and what a set of problems must offer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True)
class Problem:
    """One question. `text` is what a model reads, `answer` what a reward compares with.

    `level` groups problems by difficulty in evaluation tables ("" when unrated). `metadata` carries
    whatever else a reward or a prompt template needs; its keys can be used in templates. `reward` names
    what grades the answer where the configuration does not, `instruction` says how to write it.
    """

    id: str
    text: str
    answer: str
    dataset: str
    level: str = ""
    metadata: Mapping[str, Any] = field(default_factory=dict)
    reward: str = ""
    instruction: str = ""


class Source(Protocol):
    """Random access: `source[i]` is the same problem every time, IndexError beyond the end."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Problem: ...


@dataclass(frozen=True)
class Subset:
    """A view of some problems of a source, in the order of `indices`."""

    source: Source
    indices: Sequence[int]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Problem:
        return self.source[self.indices[index]]
