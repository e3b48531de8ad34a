"""The sampler that training and evaluation share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from transformers import PreTrainedTokenizerBase

from riskpo_jax.models.decoder import Decoder
from riskpo_jax.rollout.generate import generate
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import batch_sharding
from riskpo_jax.types import Prompts, Rollout

Rows = TypeVar("Rows", Prompts, Rollout)
T = TypeVar("T")


class Sampler:
    """`generate` for one model on one mesh, compiled once for each batch shape and setting."""

    def __init__(
        self, model: Decoder, mesh: Mesh, max_response_length: int, eos_ids: tuple[int, ...]
    ):
        self._sharding = batch_sharding(mesh)
        self._generate = jax.jit(
            partial(generate, model, max_response_length=max_response_length, eos_ids=eos_ids),
            static_argnames=("group_size", "sampling"),
            out_shardings=self._sharding,
        )

    def place(self, rows: Rows) -> Rows:
        """Prompts or a rollout on the mesh, its rows divided over the data axes."""
        return jax.device_put(rows, self._sharding)

    def __call__(
        self,
        params: Any,
        key: jax.Array,
        prompts: Prompts,
        group_size: int,
        sampling: SamplingParams,
    ) -> Rollout:
        """G responses to each placed prompt; see `generate`."""
        return self._generate(params, key, prompts, group_size=group_size, sampling=sampling)


def sample_in_turns(
    sampler: Sampler,
    params: Any,
    key: jax.Array,
    prompts: Prompts,
    group_size: int,
    sampling: SamplingParams,
    at_once: int,
) -> Iterator[tuple[slice, Rollout]]:
    """G responses to each placed prompt, `at_once` prompts in one call of the sampler; 0 takes all.

    Yields the rows of the prompts and their rollout, turn by turn; while the caller has one, the devices
    work on the next. They hold the KV cache of `at_once` * G responses, not of the whole rollout batch.
    """
    Q = prompts.lengths.shape[0]
    if at_once in (0, Q):
        yield slice(0, Q), sampler(params, key, prompts, group_size, sampling)
        return

    def turn(start: int) -> tuple[slice, Rollout]:
        rows, turn_key = slice(start, start + at_once), jax.random.fold_in(key, start)
        placed = sampler.place(Prompts(prompts.tokens[rows], prompts.lengths[rows]))
        return rows, sampler(params, turn_key, placed, group_size, sampling)

    yield from one_ahead(turn, range(0, Q, at_once))


def one_ahead(dispatch: Callable[[int], T], starts: Iterable[int]) -> Iterator[T]:
    """`dispatch` of every start in order; while the caller has one, the devices work on the next.

    Never on two: the second would want a KV cache beside the first one's.
    """
    ready: list[T] = []
    for start in starts:
        jax.block_until_ready(ready)
        ready.append(dispatch(start))
        if len(ready) > 1:
            yield ready.pop(0)
    yield from ready


def join_turns(sampler: Sampler, turns: Sequence[Rollout]) -> Rollout:
    """The rollout of the whole batch, placed."""
    if len(turns) == 1:
        return turns[0]
    return sampler.place(jax.tree.map(lambda *rows: jnp.concatenate(rows), *turns))


def decode_responses(
    tokenizer: PreTrainedTokenizerBase, tokens_NxR: np.ndarray, lengths_N: np.ndarray
) -> list[str]:
    """The text of each response, without special tokens. For graders and readers, never for training."""
    rows = [tokens[:length] for tokens, length in zip(tokens_NxR, lengths_N, strict=True)]
    return tokenizer.batch_decode(rows, skip_special_tokens=True)
