"""One future of many."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeVar

A = TypeVar("A")
B = TypeVar("B")


def gathered(parts: Sequence[Future[A]], finish: Callable[[list[A]], B]) -> Future[B]:
    """`finish` of all results in order; done when the last part is, and failed when one has."""
    whole: Future[B] = Future()
    lock = threading.Lock()
    waiting = set(parts)

    def settle() -> None:
        try:
            whole.set_result(finish([part.result() for part in parts]))
        except BaseException as error:  # CancelledError among them
            whole.set_exception(error)

    def done(part: Future[A]) -> None:
        with lock:
            waiting.remove(part)
            last = not waiting
        if last:
            settle()

    if not parts:
        settle()
    for part in set(parts):
        part.add_done_callback(done)
    return whole
