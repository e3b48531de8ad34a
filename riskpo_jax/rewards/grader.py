"""What grades a batch of responses, beside the host's other work."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from typing import Protocol

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.outcome import Outcome


class Grader(Protocol):
    """Grades responses and holds what that takes (worker processes), until `close`.

    `submit` takes N responses with the N problems that they answer (a problem stands as often as it was
    answered) and returns at once; the future's result is N outcomes in the same order. Whatever a
    response does, its outcome is one of the five kinds: the future fails only for what the user must
    mend (UserError), and hangs never. Batches may be submitted while others are being graded.
    """

    def submit(
        self, responses: Sequence[str], problems: Sequence[Problem]
    ) -> Future[list[Outcome]]: ...

    def close(self) -> None: ...
