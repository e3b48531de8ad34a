"""Several processes that are one run: one on each host of a TPU pod or of a cluster of GPU hosts.

All run the same program with the same settings on the same data, and so come to the same decisions and
give the devices the same work in the same order. What may differ between hosts (the verdict of a grader
with a deadline, what a folder holds just now) is exchanged, or is the main process's to say. It goes
through the key-value store of JAX's coordinator, not over the devices: so it may be done in any thread,
does not wait for what the devices have queued, and compiles nothing. JAX has no public name for the
store.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import jax
from jax._src.distributed import global_state

from riskpo_jax.errors import UserError

T = TypeVar("T")

_FAILURE = "riskpo_jax/failure"  # key of the message of the first process that failed
_POLL_S = 0.5
_FAREWELL_MS = 5_000  # for all to have read it
_LINGER_S = 1.0  # of the main process: where the store is gone, JAX aborts what is still there
_FOREVER_MS = 2**31 - 1


def count() -> int:
    """1 unless `together`. Like `index`, it touches no device, as `jax.process_count` would."""
    return global_state.num_processes


def index() -> int:
    return global_state.process_id


def is_main() -> bool:
    """Whether this process writes the run's files and speaks to the user."""
    return index() == 0


class Channel:
    """Values of all processes, which use it equally often. Different threads need different channels."""

    def __init__(self, name: str):
        self._name, self._numbers = name, itertools.count()

    def exchange(self, value: Any) -> list[Any]:
        """The `value` of each process, in their order. It is what JSON can hold, NaN included."""
        if count() == 1:
            return [value]
        client, number = global_state.client, next(self._numbers)
        client.key_value_set_bytes(self._key(number, index()), json.dumps(value).encode())
        values = [
            json.loads(client.blocking_key_value_get_bytes(self._key(number, i), _FOREVER_MS))
            for i in range(count())
        ]
        if number:  # all have sent this one, so all have read the one before
            client.key_value_delete(self._key(number - 1, index()))
        return values

    def _key(self, number: int, process: int) -> str:
        return f"riskpo_jax/{self._name}/{number}/{process}"


_DECISIONS = Channel("decisions")
exchange = _DECISIONS.exchange


def from_main(ask: Callable[[], T]) -> T:
    """What `ask` returns in the main process, which alone calls it; JSON can hold it."""
    return exchange(ask() if is_main() else None)[0]


def require_same(values: Mapping[str, Any]) -> None:
    """Raises UserError, in every process, for the first of the named values in which two of them differ."""
    main, *others = exchange(dict(values))
    for number, other in enumerate(others, start=1):
        for name, value in main.items():
            if other[name] != value:
                raise UserError(
                    f"{name} is {other[name]!r:.80} in process {number} and {value!r:.80} in process 0: "
                    "start every process with the same command, on the same files"
                )


@contextlib.contextmanager
def together(
    coordinator: str | None, num_processes: int | None, process_id: int | None
) -> Iterator[None]:
    """Connects with the other processes, before any device is touched; they come and go together.

    Where the body raises in one process, the exception goes on there, and every other process says so in
    one line and exits with status 1, whatever it is doing or waiting for. A process that is killed is
    noticed by JAX, after 100 s without a heartbeat if no collective breaks before.

    Args:
      coordinator: "host:port" of process 0; None leaves all three to what JAX finds in its surroundings
        (TPU VMs, Slurm, Open MPI, Kubernetes).

    Raises:
      UserError: the processes do not find each other.
    """
    try:
        jax.distributed.initialize(coordinator, num_processes, process_id)
    except (ValueError, TypeError, RuntimeError) as error:
        raise UserError(
            f"the processes did not find each other ({_first_line(error)}): --distributed.coordinator, "
            "num_processes and process_id say where and how many they are"
        ) from error
    done, failing = threading.Event(), threading.Lock()
    watch = threading.Thread(target=_watch, args=(done, failing), daemon=True)
    watch.start()
    try:
        yield
        exchange(None)  # until the last is done, a failure is everybody's
    except BaseException as error:
        failing.acquire()  # and for good: no other's failure is reported here any more
        _tell(f"process {index()}: {_first_line(error)}")
        atexit.register(_leave)  # else JAX would wait for the others here
        raise
    done.set()
    watch.join()


def _watch(done: threading.Event, failing: threading.Lock) -> None:
    """Ends this process when another one has failed."""
    while not done.wait(_POLL_S):
        try:
            message = global_state.client.key_value_try_get(_FAILURE)
        except jax.errors.JaxRuntimeError:  # there is none
            continue
        if failing.acquire(blocking=False):
            print(f"error: {message}", file=sys.stderr)
            _say_farewell()
            _leave()
        return


def _tell(message: str) -> None:
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another one was first
        global_state.client.key_value_set(_FAILURE, message)
    _say_farewell()


def _say_farewell() -> None:
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # some are gone already
        global_state.client.wait_at_barrier("riskpo_jax/farewell", _FAREWELL_MS)
    if is_main():
        time.sleep(_LINGER_S)


def _leave() -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def _first_line(error: BaseException) -> str:
    kind = "" if isinstance(error, UserError) else type(error).__name__
    return ": ".join(filter(None, (kind, str(error).partition("\n")[0])))
