"""The order in which training sees its problems."""

from __future__ import annotations

import numpy as np

from riskpo_jax.data.problem import Problem, Source
from riskpo_jax.errors import UserError


class Loader:
    """Batches of problems, resumable from one integer.

    The stream of problems is the concatenation of epochs, each a fresh permutation of the source;
    `position` counts the problems already taken from it. What follows a position depends on (seed,
    position) only, so the position is all there is to save. Batches may straddle epochs.

    Raises UserError for an empty source.
    """

    def __init__(self, source: Source, batch_size: int, seed: int):
        if len(source) == 0:
            raise UserError("the data set is empty: there is nothing to train on")
        if batch_size < 1:
            raise UserError(f"a batch of {batch_size} problems: at least 1 is needed")
        self.source, self.batch_size, self.seed = source, batch_size, seed
        self._shuffled: dict[int, np.ndarray] = {}

    def indices(self, position: int) -> np.ndarray:
        """int64[batch_size]: the indices of the problems at `position` and after."""
        slots = np.arange(position, position + self.batch_size)
        epochs, offsets = np.divmod(slots, len(self.source))
        orders = {epoch: self._order(epoch) for epoch in np.unique(epochs).tolist()}
        self._shuffled = orders  # the next batch starts in the last of these
        return np.array(
            [orders[e][o] for e, o in zip(epochs.tolist(), offsets.tolist(), strict=True)]
        )

    def batch(self, position: int) -> list[Problem]:
        """The problems themselves. The next position is `position + batch_size`."""
        return [self.source[i] for i in self.indices(position).tolist()]

    def _order(self, epoch: int) -> np.ndarray:
        """The permutation of one epoch."""
        if epoch in self._shuffled:
            return self._shuffled[epoch]
        generator = np.random.default_rng(np.random.SeedSequence([self.seed, epoch]))
        return generator.permutation(len(self.source))
