"""One rollout from the first prompt to the last response, seen from the host."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from riskpo_jax.buckets import bucket_of, length_buckets
from riskpo_jax.models.attention import KV
from riskpo_jax.rollout.cache import Cache
from riskpo_jax.rollout.decode import Drawn, Slots
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.rollout.seating import Seating
from riskpo_jax.sharding import place
from riskpo_jax.types import Prompts, Rollout

PROMPT_TOKENS_AT_ONCE = 2048  # slots of the prompts that a device reads in one call


class Finished(NamedTuple):
    """Questions whose responses have all ended, and the host arrays of these, in the same order."""

    questions: list[int]
    rollout: Rollout


class Session:
    """G responses to each of Q questions; `run` once.

    The arrays end in N are the host's record of every response; those of the devices are the cache, the
    block that is being filled, and the slots.
    """

    def __init__(
        self,
        programs: Programs,
        params: Any,
        key: jax.Array,
        prompts: Prompts,
        limits_N: np.ndarray,
        sampling: SamplingParams,
        *,
        slots: int,
        first: int,
    ):
        """limits_N: int[N], the longest that each response may get. slots: over all shards, which divide it.

        first: the number of the first response; the number decides the random numbers.
        """
        self.programs, self.params = programs, programs.lay_out(params)
        self.key = np.asarray(jax.random.key_data(key))  # it may lie on a mesh of another shape
        self.prompts, self.sampling, self.first = _trimmed(prompts), sampling, first
        Q, N = len(prompts.lengths), len(limits_N)
        self.group_size = N // Q
        self.seating = Seating(Q, self.group_size, programs.shards, slots)
        last_Q = prompts.tokens[np.arange(Q), prompts.lengths - 1]
        self.last_N, self.limits_N = np.repeat(last_Q, self.group_size), limits_N.astype(np.int32)
        self.record = Rollout(
            tokens=np.zeros((N, programs.longest), np.int32),
            lengths=np.zeros(N, np.int32),
            logprobs=np.zeros((N, programs.longest), np.float32),
            truncated=np.zeros(N, bool),
        )
        width = self.prompts.tokens.shape[1]
        self.reads_at_once = min(self.seating.prompt_slots, max(PROMPT_TOKENS_AT_ONCE // width, 1))
        self.prompt_kv = programs.empty(programs.shards * self.seating.prompt_slots, width)
        self.blocks: list[KV] = []
        self.recent = programs.empty(slots, programs.block, programs.model.dtype)
        self.filled = 0
        self.forgot = False  # blocks, since the slots were placed

    def run(self) -> Iterator[Finished]:
        """Questions as they are completed; whoever gets them has time while the devices go on."""
        complete: list[int] = []
        self.seat()
        while (self.seating.responses >= 0).any():
            drawn = self.dispatch()
            if complete:
                yield self.finished(complete)
            complete = self.take_up(jax.device_get(drawn))
            if self.seating.unfinished_Q.any():
                self.tidy_timeline()
                self.seat()
        yield self.finished(complete)

    def rehearse(self, blocks: int) -> None:
        """Decodes once behind a timeline of so many full blocks, and forgets it."""
        self.seat()
        slots = self.seating.responses.size
        self.blocks = [self.programs.empty(slots, self.programs.block) for _ in range(blocks)]
        jax.block_until_ready(self.dispatch())

    def seat(self) -> None:
        """Waiting responses take free slots; where none waits, the slots may become fewer."""
        to_read = self.seating.admit(len(self.blocks) * self.programs.block + self.filled)
        moved = None
        if to_read is None:
            moved = self.seating.compact(self.programs.slot_counts(self.seating.slots_per_shard))
            if moved is not None:
                self.take(*moved)
        else:
            self.read(to_read)
        if to_read is not None or moved is not None or self.forgot:
            self.place_slots()
        self.forgot = False

    def read(self, to_read: list[list[tuple[int, int]]]) -> None:
        """Reads prompts into their slots; lists of (prompt slot, question), one a shard."""
        count, beyond = self.reads_at_once, self.seating.prompt_slots
        for start in range(0, max(map(len, to_read)), count):
            slots, questions = (
                np.full(len(to_read) * count, beyond),
                np.zeros(len(to_read) * count, int),
            )
            for shard, pairs in enumerate(to_read):
                for i, (slot, question) in enumerate(pairs[start : start + count], shard * count):
                    slots[i], questions[i] = slot, question
            rows = Prompts(self.prompts.tokens[questions], self.prompts.lengths[questions])
            rows, slots = place(self.programs.mesh, (rows, slots.astype(np.int32)))
            new = self.programs.read(self.params, rows)
            self.prompt_kv = self.programs.put(self.prompt_kv, slots, new)

    def take(self, slots: np.ndarray, prompt_slots: np.ndarray) -> None:
        """Keeps these slots of the caches, counted within their shard."""
        rows, prompt_rows = place(self.programs.mesh, (slots, prompt_slots))
        in_place = np.tile(np.arange(self.seating.prompt_slots), self.programs.shards)
        if self.prompt_lengths.size > in_place.size or (prompt_slots != in_place).any():
            self.prompt_kv = self.programs.take(self.prompt_kv, prompt_rows)
        self.blocks = [self.programs.take(block, rows) for block in self.blocks]
        self.recent = self.programs.take(self.recent, rows)

    def place_slots(self) -> None:
        """The slots of the devices, as the host has them in mind."""
        responses, question = self.seating.responses, self.seating.questions
        n = np.maximum(responses, 0)
        prompt, member, members = self.seating.tables()
        slots = Slots(
            token=self.last_N[n],
            drawn=self.record.lengths[n],
            alive=responses >= 0,
            limit=self.limits_N[n],
            key=None,
            begin=self.seating.begin_N[n],
            prompt=prompt,
            member=member,
            members=members,
        )
        # The last token of a prompt is the first that is decoded: only those before it are seen there.
        lengths = np.where(question >= 0, self.prompts.lengths[question] - 1, 0)
        slots, numbers, self.prompt_lengths = place(
            self.programs.mesh, (slots, n + self.first, lengths.astype(np.int32))
        )
        self.slots = slots.replace(key=self.programs.keys(self.key, numbers))

    def dispatch(self) -> Drawn:
        cache = Cache(self.prompt_kv, self.prompt_lengths, tuple(self.blocks))
        steps = min(self.programs.width, self.programs.block - self.filled)
        self.recent, self.slots, drawn = self.programs.decode(
            self.params,
            cache,
            self.recent,
            np.int32(self.filled),
            self.slots,
            np.int32(steps),
            sampling=self.sampling,
        )
        return drawn

    def take_up(self, drawn: Drawn) -> list[int]:
        """Writes down what was drawn; the questions that are complete now."""
        responses, record, steps = self.seating.responses, self.record, int(drawn.steps)
        self.filled += steps
        sitting = np.flatnonzero(responses >= 0)
        n, before = responses[sitting], record.lengths[responses[sitting]]
        new = drawn.counts[sitting] - before
        slot, column = np.nonzero(np.arange(steps)[None, :] < new[:, None])
        where = n[slot], before[slot] + column
        record.tokens[where] = drawn.tokens[sitting[slot], column]
        record.logprobs[where] = drawn.logprobs[sitting[slot], column]
        record.lengths[n] = drawn.counts[sitting]
        self.last_N[n] = drawn.tokens[sitting, new - 1]
        ended = responses[(responses >= 0) & ~drawn.alive]
        record.truncated[ended] = ~np.isin(self.last_N[ended], self.programs.eos_ids)
        return self.seating.release(ended)

    def tidy_timeline(self) -> None:
        """Puts a full block away, and forgets the first while nobody looks at it any more."""
        programs = self.programs
        if self.filled == programs.block:
            self.blocks.append(programs.close(self.recent))
            slots = self.seating.responses.size
            self.recent = programs.empty(slots, programs.block, programs.model.dtype)
            self.filled = 0
        while self.blocks and self.seating.first_place() >= programs.block:
            self.blocks.pop(0)
            self.seating.begin_N -= programs.block
            self.forgot = True

    def finished(self, questions: list[int]) -> Finished:
        rows = np.arange(len(self.limits_N)).reshape(-1, self.group_size)[questions].reshape(-1)
        return Finished(questions, jax.tree.map(lambda x: x[rows], self.record))


def _trimmed(prompts: Prompts) -> Prompts:
    """The prompts in the shortest bucket that holds them."""
    width = bucket_of(int(prompts.lengths.max()), length_buckets(prompts.tokens.shape[1]))
    return Prompts(prompts.tokens[:, :width], prompts.lengths)


def in_order(parts: Sequence[Finished]) -> Rollout:
    """The rollout of all questions, row n = q * G + g."""
    order = np.argsort([question for part in parts for question in part.questions])

    def rows(*arrays: np.ndarray) -> np.ndarray:
        whole = np.concatenate(arrays)
        by_question = whole.reshape(len(order), -1, *whole.shape[1:])
        return by_question[order].reshape(whole.shape)

    return jax.tree.map(rows, *[part.rollout for part in parts])
