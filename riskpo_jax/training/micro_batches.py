"""How the responses of an update are cut into micro-batches: whole questions together, long ones first.

Host arithmetic on lengths. A chunk holds some questions, whose prompts are read once; its responses are
sorted by length and cut into micro-batches of few shapes, each of about as many tokens as the budget says.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from riskpo_jax.buckets import bucket_of, length_buckets
from riskpo_jax.types import MicroBatch, Prompts, Rollout


@dataclass(frozen=True)
class Sequences:
    """An update's host arrays: prompts of Q questions, and N = Q * G responses (row n = q * G + g).

    advantages: float32[N].
    """

    prompts: Prompts
    responses: Rollout
    advantages: np.ndarray


@dataclass(frozen=True)
class Budget:
    """What one backward pass may hold on one data shard.

    tokens: response slots, or prompt slots. questions, rows: of the whole update, on one shard.
    """

    tokens: int
    questions: int
    rows: int

    def rows_of(self, length: int) -> int:
        """Responses of a micro-batch whose slots are `length`."""
        return min(max(self.tokens // length, 1), self.rows)

    def questions_of(self, length: int) -> int:
        """Prompts of a chunk whose slots are `length`."""
        return min(max(self.tokens // length, 1), self.questions)


def chunks(
    sequences: Sequences, questions: Sequence[int], budget: Budget, shards: int
) -> Iterator[tuple[Prompts, list[MicroBatch]]]:
    """The chunks of an update on some `questions`: prompts [shards * q, P'] and their micro-batches.

    P' and R' are the shortest buckets that hold what is in them. Rows of shape that hold nothing have
    length 0. Every shard has its share of each array, in order.
    """
    lengths_Q = np.asarray(sequences.prompts.lengths)[list(questions)]
    widths = length_buckets(sequences.prompts.tokens.shape[1])
    width = bucket_of(int(lengths_Q.max(initial=1)), widths)
    per_shard = budget.questions_of(width)
    dealt = _deal(sequences, questions, shards)
    for start in range(0, max(map(len, dealt)), per_shard):
        held = [part[start : start + per_shard] for part in dealt]
        yield (
            _prompts(sequences.prompts, held, per_shard, width),
            list(_micro_batches(sequences, held, budget)),
        )


def largest_chunk(
    budget: Budget, shards: int, prompt_width: int, longest: int
) -> tuple[Prompts, MicroBatch]:
    """The largest arrays that `chunks` makes of prompts and responses of these lengths, all tokens 0."""
    questions, rows = shards * budget.questions_of(prompt_width), shards * budget.rows_of(longest)
    prompts = Prompts(
        np.zeros((questions, prompt_width), np.int32), np.full(questions, prompt_width, np.int32)
    )
    batch = MicroBatch(
        number=np.arange(rows, dtype=np.int32),
        question=np.zeros(rows, np.int32),
        tokens=np.zeros((rows, longest), np.int32),
        lengths=np.full(rows, longest, np.int32),
        behaviour_logprobs=np.zeros((rows, longest), np.float32),
        advantages=np.zeros(rows, np.float32),
    )
    return prompts, batch


def _deal(sequences: Sequences, questions: Sequence[int], shards: int) -> list[list[int]]:
    """The questions of each shard, those with long responses first, and as even as cards are dealt."""
    lengths_QxG = _by_question(sequences, sequences.responses.lengths)
    order = sorted(questions, key=lambda q: (-int(lengths_QxG[q].sum()), q))
    return [order[shard::shards] for shard in range(shards)]


def _by_question(sequences: Sequences, rows_N: np.ndarray) -> np.ndarray:
    return np.asarray(rows_N).reshape(len(sequences.prompts.lengths), -1)


def _prompts(prompts: Prompts, held: list[list[int]], per_shard: int, width: int) -> Prompts:
    tokens = np.zeros((len(held), per_shard, width), np.int32)
    lengths = np.zeros((len(held), per_shard), np.int32)
    for shard, questions in enumerate(held):
        tokens[shard, : len(questions)] = prompts.tokens[questions, :width]
        lengths[shard, : len(questions)] = prompts.lengths[questions]
    return Prompts(tokens.reshape(-1, width), lengths.reshape(-1))


def _micro_batches(
    sequences: Sequences, held: list[list[int]], budget: Budget
) -> Iterator[MicroBatch]:
    lengths_N = np.asarray(sequences.responses.lengths)
    group_size = len(lengths_N) // len(sequences.prompts.lengths)
    buckets = length_buckets(sequences.responses.tokens.shape[1])

    def rows_of(questions: list[int]) -> list[tuple[int, int]]:
        """(row, number of its question), the longest first."""
        rows = [
            (q * group_size + g, number)
            for number, q in enumerate(questions)
            for g in range(group_size)
        ]
        return sorted(rows, key=lambda row: -lengths_N[row[0]])

    waiting = [rows_of(questions) for questions in held]
    while any(waiting):
        longest = max(int(lengths_N[rows[0][0]]) for rows in waiting if rows)
        width = bucket_of(max(longest, 1), buckets)
        count = budget.rows_of(width)
        taken = [rows[:count] for rows in waiting]
        waiting = [rows[count:] for rows in waiting]
        yield _micro_batch(sequences, taken, count, width)


def _micro_batch(
    sequences: Sequences, taken: list[list[tuple[int, int]]], count: int, width: int
) -> MicroBatch:
    responses, shards = sequences.responses, len(taken)
    batch = MicroBatch(
        number=np.full((shards, count), -1, np.int32),
        question=np.zeros((shards, count), np.int32),
        tokens=np.zeros((shards, count, width), np.int32),
        lengths=np.zeros((shards, count), np.int32),
        behaviour_logprobs=np.zeros((shards, count, width), np.float32),
        advantages=np.zeros((shards, count), np.float32),
    )
    for shard, pairs in enumerate(taken):
        if pairs:
            rows, numbers = map(list, zip(*pairs, strict=True))
            batch.number[shard, : len(rows)] = rows
            batch.question[shard, : len(rows)] = numbers
            batch.tokens[shard, : len(rows)] = responses.tokens[rows, :width]
            batch.lengths[shard, : len(rows)] = responses.lengths[rows]
            batch.behaviour_logprobs[shard, : len(rows)] = responses.logprobs[rows, :width]
            batch.advantages[shard, : len(rows)] = sequences.advantages[rows]
    return jax.tree.map(lambda x: x.reshape(shards * count, *x.shape[2:]), batch)
