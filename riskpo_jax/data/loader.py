"""The order in which training sees its problems."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from riskpo_jax.data.mixture import Mixture, interleave, whole_shares
from riskpo_jax.data.problem import Problem, Source
from riskpo_jax.errors import UserError


class Stream(Protocol):
    """An endless sequence of problems."""

    def at(self, slots: np.ndarray) -> np.ndarray:
        """int64[n]: the indices of the problems at positions int64[n]; depends on nothing else."""
        ...


class ShuffledStream:
    """The concatenation of epochs, each a fresh permutation of `size` problems.

    `salt` tells streams of one seed apart.
    """

    def __init__(self, size: int, seed: int, salt: tuple[int, ...] = ()):
        self.size, self.seed, self.salt = size, seed, salt
        self._orders: dict[int, np.ndarray] = {}

    def at(self, slots: np.ndarray) -> np.ndarray:
        epochs, offsets = np.divmod(slots, self.size)
        orders = {epoch: self._order(epoch) for epoch in np.unique(epochs).tolist()}
        self._orders = orders  # the next batch starts in the last of these
        pairs = zip(epochs.tolist(), offsets.tolist(), strict=True)
        return np.array([orders[epoch][offset] for epoch, offset in pairs], np.int64)

    def _order(self, epoch: int) -> np.ndarray:
        order = self._orders.get(epoch)
        if order is not None:
            return order
        entropy = np.random.SeedSequence([self.seed, epoch, *self.salt])
        return np.random.default_rng(entropy).permutation(self.size)


class WeightedStream:
    """The parts of a mixture, each shuffled by itself and in epochs of its own, as its weights say.

    Of any first n problems a part has its share of n, to less than one. A small part comes again sooner
    than a large one has been seen.
    """

    def __init__(self, mixture: Mixture, seed: int):
        shares = whole_shares(mixture.weights)
        self._period = interleave(shares)
        self._shares = np.array(shares)
        # before[r, i]: how many of part i the first r slots of a period hold
        one_hot = self._period[:, None] == np.arange(len(shares))[None]
        self._before = np.concatenate([np.zeros_like(one_hot[:1]), one_hot]).cumsum(axis=0)
        self._starts = mixture.starts
        # A salt of 0 would be none: SeedSequence pads with zeros.
        self._parts = [
            ShuffledStream(size, seed, salt=(i + 1,)) for i, size in enumerate(mixture.sizes)
        ]

    def at(self, slots: np.ndarray) -> np.ndarray:
        periods, within = np.divmod(slots, len(self._period))
        parts = self._period[within]
        taken = periods * self._shares[parts] + self._before[within, parts]
        indices = np.empty_like(slots)
        for i in np.unique(parts).tolist():
            here = parts == i
            indices[here] = self._starts[i] + self._parts[i].at(taken[here])
        return indices


class Loader:
    """Batches of problems, resumable from one integer, divided over hosts.

    `position` counts the problems that all hosts together have taken. What follows it depends on (seed,
    position) only, so the position is all there is to save, and any number of threads or hosts may ask
    for any batch. Batches may straddle epochs. The source is a `ShuffledStream`, or a `WeightedStream` if
    it is a mixture with weights.

    batch_size: problems of all hosts together. shard: (index, count) of this host: it gets its
    contiguous 1/count of every batch.

    Raises UserError for an empty source, and for a batch that does not divide over the hosts.
    """

    def __init__(self, source: Source, batch_size: int, seed: int, shard: tuple[int, int] = (0, 1)):
        index, count = shard
        if len(source) == 0:
            raise UserError("the data set is empty: there is nothing to train on")
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} problems: at least 1 is needed")
        if not 0 <= index < count or batch_size % count:
            raise UserError(
                f"a batch of {batch_size} problems does not divide over {count} hosts (this is number "
                f"{index}): choose a multiple"
            )
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self.rows = np.arange(batch_size)[index * batch_size // count :][: batch_size // count]
        weighted = isinstance(source, Mixture) and source.weights is not None
        self._stream: Stream = (
            WeightedStream(source, seed) if weighted else ShuffledStream(len(source), seed)
        )

    def indices(self, position: int) -> np.ndarray:
        """int64[batch_size / count]: the indices of this host's problems of the batch at `position`."""
        return self._stream.at(position + self.rows)

    def batch(self, position: int) -> list[Problem]:
        """The problems themselves. The next position is `position + batch_size`."""
        return [self.source[i] for i in self.indices(position).tolist()]
