"""What a pool has promised: batches of outcomes, filled in any order."""

from __future__ import annotations

from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass

from riskpo_jax.rewards.outcome import Outcome


class Batch:
    """N outcomes to come; the future ends when the last is set, or at the first failure."""

    def __init__(self, size: int):
        self.future: Future[list[Outcome]] = Future()
        self._outcomes: list[Outcome | None] = [None] * size
        self._missing = size
        if not size:
            self.future.set_result([])

    @property
    def done(self) -> bool:
        """Ended, failed, or cancelled by who waits for it."""
        return self.future.done()

    def set(self, index: int, outcome: Outcome) -> None:
        self._outcomes[index] = outcome
        self._missing -= 1
        if not self._missing and not self.done:
            self._end(lambda: self.future.set_result(self._outcomes))

    def fail(self, error: Exception) -> None:
        self._end(lambda: self.future.set_exception(error))

    def cancel(self) -> None:
        self.future.cancel()

    def _end(self, end) -> None:
        try:
            end()
        except InvalidStateError:  # it has ended before, or was cancelled
            return


@dataclass(frozen=True, eq=False)
class Item:
    """One response of a batch on its way to a worker: `request` is pickled (response, problem)."""

    batch: Batch
    index: int
    problem_id: str
    request: bytes
