"""Training problems that an evaluation set holds, too: shared n-grams of words."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from riskpo_jax.data.mixture import select
from riskpo_jax.data.problem import Problem, Source
from riskpo_jax.data.specs import PROCEDURAL
from riskpo_jax.errors import UserError

# Statements share ways of speaking ("where m and n are relatively prime positive integers, find m + n"),
# which are no leak. A run of PHRASE words is common when more than COMMON training problems have it, for a
# problem is seldom copied as often; an n-gram tells something when at most a quarter of its phrases are.
PHRASE = 4
COMMON = 10
_MOST_COMMON = 0.25

# Letters and digits; of scripts that are written without spaces every character is a word.
_WORD = re.compile(r"[぀-ヿ㐀-䶿一-鿿豈-﫿]|[^\W_぀-ヿ㐀-䶿一-鿿豈-﫿]+")

_PUNCTUATION = re.compile(r"[\s.,;:?!'\"$]+")

_DRAWING = re.compile(r"\[asy\].*?\[/asy\]", re.DOTALL)

Gram = tuple[str, ...]


@dataclass(frozen=True)
class Overlap:
    """What a training set and an evaluation set share.

    Attributes:
      train, evaluation: the sets' names.
      indices: the training problems that share something, ascending.
      touched: ids of the evaluation problems that they share it with.
      example: the ids of the two problems that share most, and some of the words.
    """

    train: str
    evaluation: str
    indices: tuple[int, ...]
    touched: frozenset[str]
    example: tuple[str, str, str]

    def __str__(self) -> str:
        ours, theirs, words = self.example
        return (
            f"contamination: {len(self.indices)} training problems of {self.train} share a run of words with "
            f"{len(self.touched)} problems of {self.evaluation}, such as {ours} with {theirs}: {words!r}"
        )


def words(text: str) -> list[str]:
    """The words and numbers of a text, in lower case: no punctuation, no LaTeX signs, no drawings.

    A drawing is what stands between [asy] and [/asy] in MATH: all have the same commands.
    """
    return _WORD.findall(_plain(text))


def grams(found: Sequence[str], n: int) -> list[Gram]:
    """Every run of n words, once; of fewer words the whole, which only an equal text has."""
    if not found:
        return []
    runs = (tuple(found[i : i + n]) for i in range(max(len(found) - n, 0) + 1))
    return list(dict.fromkeys(runs))


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", _DRAWING.sub(" ", text)).lower()


def find_overlaps(train: Source, evaluations: Mapping[str, Source], n: int) -> list[Overlap]:
    """The overlap of every training set (`Problem.dataset`) with every evaluation set that has any.

    Two problems overlap when they share n words in a row that are not mostly common phrases (see
    `COMMON`), or are shorter than that and equal. Problems that are drawn (Countdown, reasoning-gym) are
    not compared: they have their sentences in common, and are kept apart where they are drawn. Time and
    memory are linear in the number of words.
    """
    owners = _owners(evaluations, n)
    if not owners:
        return []
    texts = [_compared(train[i], n) for i in range(len(train))]
    shared = [[gram for gram in grams(text, n) if gram in owners] for text in texts]
    common = _common_phrases(texts, {p for found in shared for g in found for p in phrases(g)})

    def tells(gram: Gram) -> bool:
        parts = phrases(gram)
        return len(gram) < n or sum(p in common for p in parts) <= _MOST_COMMON * len(parts)

    return _gather(train, [list(filter(tells, found)) for found in shared], owners)


def phrases(found: Sequence[str]) -> list[Gram]:
    return grams(found, PHRASE)


def without_overlaps(train: Source, overlaps: Iterable[Overlap]) -> Source:
    """The training problems that no overlap names.

    Raises UserError when none is left.
    """
    dropped = {index for overlap in overlaps for index in overlap.indices}
    kept = [i for i in range(len(train)) if i not in dropped]
    if not kept:
        raise UserError(
            "--data.drop_contaminated leaves no training problem: every one shares words with an "
            "evaluation problem"
        )
    return select(train, kept) if dropped else train


def _compared(problem: Problem, n: int) -> list[str]:
    """The words of a problem; a shorter text is one word with all its signs: 2 + 3 is not 2 * 3."""
    if problem.reward in PROCEDURAL:
        return []
    found = words(problem.text)
    return found if len(found) >= n or not found else [_PUNCTUATION.sub("", _plain(problem.text))]


def _owners(evaluations: Mapping[str, Source], n: int) -> dict[Gram, list[tuple[str, str]]]:
    """n-gram -> the (set, problem id) that have it."""
    owners: dict[Gram, list[tuple[str, str]]] = {}
    for name, source in evaluations.items():
        for problem in (source[i] for i in range(len(source))):
            for gram in grams(_compared(problem, n), n):
                owners.setdefault(gram, []).append((name, problem.id))
    return owners


def _common_phrases(texts: Sequence[Sequence[str]], asked: set[Gram]) -> set[Gram]:
    """Those of the phrases `asked` that more than `COMMON` texts have."""
    counts = Counter(phrase for text in texts for phrase in asked.intersection(phrases(text)))
    return {phrase for phrase, count in counts.items() if count > COMMON}


def _gather(
    train: Source, shared: Sequence[Sequence[Gram]], owners: Mapping[Gram, list[tuple[str, str]]]
) -> list[Overlap]:
    """The overlaps, from the n-grams that each training problem shares."""
    # (training set, evaluation set) -> (training index, evaluation id) -> their n-grams
    pairs: dict[tuple[str, str], dict[tuple[int, str], list[Gram]]] = {}
    for index, found in enumerate(shared):
        for gram in found:
            for name, theirs in owners[gram]:
                both = pairs.setdefault((train[index].dataset, name), {})
                both.setdefault((index, theirs), []).append(gram)
    overlaps = []
    for (ours, name), both in pairs.items():
        (index, theirs), most = max(both.items(), key=lambda item: len(item[1]))
        indices = tuple(sorted({i for i, _ in both}))
        example = (train[index].id, theirs, " ".join(most[0]))
        overlaps.append(Overlap(ours, name, indices, frozenset(t for _, t in both), example))
    return overlaps
