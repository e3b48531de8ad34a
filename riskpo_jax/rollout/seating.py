"""Who sits where: the host's bookkeeping of response slots, prompt slots and waiting responses.

No arrays of the device here. Each data shard has slots of its own; a question stays on the shard that
reads its prompt. Response n = q * G + g answers question q.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np


@dataclass
class Shard:
    """One data shard's slots.

    response: the response in each slot, -1 where there is none. question: the question in each prompt
    slot, -1 where there is none. waiting: questions of this shard whose responses do not all sit yet.
    """

    response: np.ndarray
    question: np.ndarray
    waiting: deque[int] = field(default_factory=deque)


class Seating:
    """Assigns Q questions of G responses to the slots of all shards.

    Attributes:
      shards: what each holds. begin_N: int[N], the place of the timeline at which a response began.
      seated_Q: int[Q], responses of a question that sit or sat. unfinished_Q: int[Q], that have not ended.
    """

    def __init__(self, questions: int, group_size: int, shards: int, slots: int):
        """slots: responses at the same time, over all shards; a multiple of `shards`."""
        self.group_size = group_size
        prompts = -(-(slots // shards) // group_size)
        if questions > prompts * shards:
            # Some wait for their last responses while others begin; each that is held has one that sits.
            prompts = min(3 * prompts, slots // shards)
        self.shards = [
            Shard(np.full(slots // shards, -1), np.full(prompts, -1)) for _ in range(shards)
        ]
        for question in range(questions):
            self.shards[question % shards].waiting.append(question)
        self.seated_Q = np.zeros(questions, int)
        self.unfinished_Q = np.full(questions, group_size)
        self.begin_N = np.zeros(questions * group_size, int)

    @property
    def slots_per_shard(self) -> int:
        return self.shards[0].response.size

    @property
    def prompt_slots(self) -> int:
        """Of each shard."""
        return self.shards[0].question.size

    @property
    def questions(self) -> np.ndarray:
        """int, the question in each prompt slot, -1 where there is none."""
        return np.concatenate([shard.question for shard in self.shards])

    @property
    def responses(self) -> np.ndarray:
        """int[S], the response in each slot, -1 where there is none."""
        return np.concatenate([shard.response for shard in self.shards])

    def release(self, ended: np.ndarray) -> list[int]:
        """Frees the slots of `ended` responses; the questions that this completes."""
        for shard in self.shards:
            shard.response[np.isin(shard.response, ended)] = -1
        np.subtract.at(self.unfinished_Q, ended // self.group_size, 1)
        complete = np.unique(ended // self.group_size)
        complete = complete[self.unfinished_Q[complete] == 0]
        for shard in self.shards:
            shard.question[np.isin(shard.question, complete)] = -1
        return complete.tolist()

    def admit(self, now: int) -> list[list[tuple[int, int]]] | None:
        """Seats waiting responses in free slots, from place `now` of the timeline on.

        Returns:
          The prompts to read, a list of (prompt slot, question) for each shard; None if nobody sat down.
        """
        seated = self.seated_Q.sum()
        to_read = [self._admit(shard, now) for shard in self.shards]
        return to_read if self.seated_Q.sum() > seated else None

    def _admit(self, shard: Shard, now: int) -> list[tuple[int, int]]:
        to_read = []
        for slot in np.flatnonzero(shard.response < 0):
            if not shard.waiting:
                break
            question = shard.waiting[0]
            if question not in shard.question:
                free = np.flatnonzero(shard.question < 0)
                if not free.size:
                    break
                shard.question[free[0]] = question
                to_read.append((int(free[0]), question))
            response = question * self.group_size + self.seated_Q[question]
            shard.response[slot] = response
            self.begin_N[response] = now
            self.seated_Q[question] += 1
            if self.seated_Q[question] == self.group_size:
                shard.waiting.popleft()
        return to_read

    def compact(self, sizes: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray] | None:
        """Moves the responses to the front where that frees enough slots.

        sizes: the slots a shard may have, ascending.

        Returns:
          The slots and the prompt slots (counted within their shard, shard after shard) that stay, in
          their new order, or None when all stay. Slots that hold nothing fill up the shape.
        """
        most = max(int((shard.response >= 0).sum()) for shard in self.shards)
        size = next(size for size in sizes if size >= most)
        if size >= self.shards[0].response.size or any(shard.waiting for shard in self.shards):
            return None
        # No more questions than responses are left.
        prompts = min(size, self.shards[0].question.size)
        kept = [(_kept(s.response, size), _kept(s.question, prompts)) for s in self.shards]
        for shard, (slots, prompt_slots) in zip(self.shards, kept, strict=True):
            shard.response, shard.question = shard.response[slots], shard.question[prompt_slots]
        return tuple(np.concatenate(rows) for rows in zip(*kept, strict=True))

    def first_place(self) -> int:
        """The first place of the timeline that anyone still looks at."""
        sitting = self.responses
        return int(self.begin_N[sitting[sitting >= 0]].min(initial=np.iinfo(int).max))

    def tables(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(prompt, member, members) as in `decode.Slots`."""
        return tuple(
            np.concatenate(parts).astype(np.int32)
            for parts in zip(*map(self._shard_tables, self.shards), strict=True)
        )

    def _shard_tables(self, shard: Shard) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        slots = np.flatnonzero(shard.response >= 0)
        questions, members = np.divmod(shard.response[slots], self.group_size)
        place = {question: slot for slot, question in enumerate(shard.question) if question >= 0}
        prompts = np.array([place[question] for question in questions], int)
        prompt, member = np.zeros((2, shard.response.size), int)
        prompt[slots], member[slots] = prompts, members
        table = np.zeros(shard.question.size * self.group_size, int)
        table[prompts * self.group_size + members] = slots
        return prompt, member, table


def _kept(holders: np.ndarray, size: int) -> np.ndarray:
    """The slots of those that hold something first, then others, `size` in all; as they are if all stay."""
    if size == holders.size:
        return np.arange(size)
    return np.argsort(holders < 0, kind="stable")[:size]
