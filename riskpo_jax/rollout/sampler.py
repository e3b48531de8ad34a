"""The sampler that training and evaluation share: many responses decoded side by side, the slots kept busy.

The host looks at the devices once in some tokens: what has ended gives its slot to a waiting response, or,
when none waits, the slots are made fewer. A response does not depend on any of that: its random numbers
come from the key, its own number and its own length so far.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
from transformers import PreTrainedTokenizerBase

from riskpo_jax.buckets import bucket_of
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.rollout.session import Finished, Session, in_order
from riskpo_jax.types import Prompts, Rollout


class Sampler:
    """Samples from one model on one mesh, with at most `slots` responses at the same time."""

    def __init__(self, programs: Programs, slots: int):
        self.programs, self.slots = programs, slots

    def stream(
        self,
        params: Any,
        key: jax.Array,
        prompts: Prompts,
        group_size: int,
        sampling: SamplingParams,
        *,
        limits_N: np.ndarray | None = None,
        first: int = 0,
    ) -> Iterator[Finished]:
        """G responses to each of Q prompts (host arrays), question by question as they are completed.

        While the caller has one, the devices work on the next.

        Args:
          limits_N: int[Q * G], the longest that each response may get, where that is not the same for all.
          first: the number of the first response; with the key it decides the random numbers.
        """
        yield from self._session(params, key, prompts, group_size, sampling, limits_N, first).run()

    def rehearse(self, params, prompts: Prompts, group_size: int, sampling: SamplingParams) -> None:
        """Compiles and runs once what takes most memory: all slots, behind the longest timeline."""
        session = self._session(params, jax.random.key(0), prompts, group_size, sampling, None, 0)
        waiting = len(prompts.lengths) * group_size > self.slots
        session.rehearse(-(-self.programs.longest // self.programs.block) - (not waiting))

    def slots_for(self, responses: int) -> int:
        """One of few numbers of slots, so that an evaluation's last batch compiles nothing new."""
        shards = self.programs.shards
        counts = self.programs.slot_counts(-(-self.slots // shards))
        return shards * bucket_of(-(-min(self.slots, responses) // shards), counts)

    def _session(self, params, key, prompts, group_size, sampling, limits_N, first) -> Session:
        N = len(prompts.lengths) * group_size
        limits_N = np.full(N, self.programs.longest) if limits_N is None else limits_N
        slots = self.slots_for(N)
        return Session(
            self.programs, params, key, prompts, limits_N, sampling, slots=slots, first=first
        )

    def __call__(self, params, key, prompts: Prompts, group_size: int, *args, **kwargs) -> Rollout:
        """The whole rollout, row n = q * G + g, as host arrays; see `stream`."""
        return in_order(list(self.stream(params, key, prompts, group_size, *args, **kwargs)))


def decode_responses(
    tokenizer: PreTrainedTokenizerBase, tokens_NxR: np.ndarray, lengths_N: np.ndarray
) -> list[str]:
    """The text of each response, without special tokens. For graders and readers, never for training."""
    rows = [tokens[:length] for tokens, length in zip(tokens_NxR, lengths_N, strict=True)]
    return tokenizer.batch_decode(rows, skip_special_tokens=True)
