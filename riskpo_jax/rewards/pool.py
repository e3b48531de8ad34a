"""Grading in worker processes that may hang, swell or die: none of that reaches the run.

One thread of the parent owns the workers. It hands out small chunks of responses, reads one reply a
response, and kills a worker that does not reply in time. More workers are kept warm than work at once, so
that a killed one is replaced at once while its successor imports.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import pickle
import selectors
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from typing import Any

from absl import logging

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.batches import Batch, Item
from riskpo_jax.rewards.outcome import Kind, Outcome
from riskpo_jax.rewards.worker_process import WorkerLost, WorkerProcess

MAX_CHUNK = 16  # responses in one message to a worker
SPARES = 1  # warm workers beyond those that may work at once
START_TIMEOUT_S = 120.0  # of a worker's imports, on a loaded machine
MAX_FAILED_STARTS = 3  # in a row, after a first success
SOFT_FRACTION = 0.5  # of the deadline, after which Python code is interrupted and the worker kept


class PoolGrader:
    """A `Grader` that calls function(response, problem, **options) in worker processes.

    path: the function, as "package.module:function"; workers import it, this process does not. What it needs
    is best imported at the top of its module: the first response's time is not for that. If the function has
    an attribute `warm_up`, a worker calls it before it is ready.
    options: keyword arguments of the function, which must pickle.
    workers: how many may work at once. timeout_s: wall-clock seconds for one response, from the moment that
    a worker begins on it; then the worker is killed and the outcome is TIMEOUT. Python code is interrupted
    at half of that and keeps its worker. memory_mb: MiB that a worker may take beyond its imports; a reward
    that catches nothing ends in ERROR.

    A worker that dies is replaced, and its response is an ERROR. The workers inherit sys.path and little
    else: of the environment only the search paths, locale, HOME and TMPDIR. They cannot write files, and
    end with this process.

    `start` and the futures of `submit` raise UserError when the workers cannot import the function, or it
    returns something else than an `Outcome`.
    """

    def __init__(
        self,
        path: str,
        options: Mapping[str, Any],
        *,
        workers: int,
        timeout_s: float,
        memory_mb: int,
    ):
        if workers < 1 or timeout_s <= 0 or memory_mb < 1:
            raise UserError(
                f"a pool needs workers >= 1, timeout_s > 0 and memory_mb >= 1; these are {workers}, "
                f"{timeout_s} and {memory_mb}"
            )
        self._path, self._workers, self._timeout_s = path, workers, timeout_s
        self._start_message = {
            "path": path,
            "options": dict(options),
            "memory_mb": memory_mb,
            "soft_timeout_s": SOFT_FRACTION * timeout_s,
        }
        self.workers_lost = 0  # killed or died while grading; for reports
        self._queue: deque[Item] = deque()
        self._processes: list[WorkerProcess] = []
        self._failed_starts, self._has_started = 0, False
        self._broken: UserError | None = None
        self._started: Future[None] = Future()
        self._closing = False
        self._lock = threading.Lock()  # of _queue, _broken, _closing and _wake_write
        self._selector = selectors.DefaultSelector()
        self._wake_read, wake_write = os.pipe()
        os.set_blocking(wake_write, False)
        self._wake_write: int | None = wake_write
        self._selector.register(self._wake_read, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, name="grading", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def start(self) -> None:
        """Waits until a worker is ready. Raises UserError when they cannot start."""
        self._started.result()

    def submit(
        self, responses: Sequence[str], problems: Sequence[Problem]
    ) -> Future[list[Outcome]]:
        """See `Grader`. Raises UserError for a problem that does not pickle, and once closed."""
        batch = Batch(len(responses))
        items = [
            Item(batch, i, problem.id, _pickled(response, problem))
            for i, (response, problem) in enumerate(zip(responses, problems, strict=True))
        ]
        with self._lock:
            if self._closing:
                raise UserError("the grader is closed: make a new one")
            if self._broken is None:
                self._queue.extend(items)
        if self._broken is not None:
            batch.fail(self._broken)
        self._wake()
        return batch.future

    def close(self) -> None:
        """Ends the workers; unfinished futures are cancelled. Safe to call again."""
        with self._lock:
            self._closing = True
        self._wake()
        self._thread.join()
        atexit.unregister(self.close)

    def _wake(self) -> None:
        with self._lock, contextlib.suppress(BlockingIOError):  # full: it is awake
            if self._wake_write is not None:
                os.write(self._wake_write, b"x")

    # What follows runs in the pool's thread.

    def _run(self) -> None:
        try:
            while not self._closing:
                self._spawn_missing()
                self._hand_out()
                for key, mask in self._selector.select(self._patience()):
                    if key.data is None:
                        os.read(self._wake_read, 4096)
                    elif key.data in self._processes:
                        self._serve(key.data, key.fd, mask)
                self._enforce_deadlines()
        except Exception as error:  # a bug of this file must not leave futures that never end
            logging.exception("the grading pool failed")
            self._break(UserError(f"the grading pool failed: {error!r}"))
            with self._lock:
                self._closing = True
        finally:
            self._shut_down()

    def _spawn_missing(self) -> None:
        while self._broken is None and len(self._processes) < self._workers + SPARES:
            try:
                process = WorkerProcess(self._start_message, self._selector, START_TIMEOUT_S)
            except OSError:  # no memory or descriptors just now: those that are there go on
                if not self._processes:
                    raise
                return
            self._processes.append(process)

    def _hand_out(self) -> None:
        """Gives chunks to idle workers, never more of them than `workers` at once."""
        busy = sum(process.busy for process in self._processes)
        for process in [p for p in self._processes if p.idle]:
            if busy >= self._workers:
                return
            if chunk := self._next_chunk():
                process.send(chunk, self._timeout_s)
                busy += 1

    def _next_chunk(self) -> list[Item]:
        """What a worker is to do next; empty only where nothing waits. Drops what nobody waits for."""
        chunk: list[Item] = []
        with self._lock:
            fair = -(-len(self._queue) // (4 * self._workers))
            while self._queue and len(chunk) < max(1, min(fair, MAX_CHUNK)):
                item = self._queue.popleft()
                if not item.batch.done:
                    chunk.append(item)
        return chunk

    def _patience(self) -> float | None:
        deadlines = [p.deadline for p in self._processes if p.deadline is not None]
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _serve(self, process: WorkerProcess, fd: int, mask: int) -> None:
        try:
            for message in process.pump(fd, mask):
                self._take(process, message)
        except WorkerLost as lost:
            self._bury(process, Kind.ERROR, str(lost))

    def _take(self, process: WorkerProcess, message: Mapping[str, Any]) -> None:
        if process.starting:
            if "refused" in message:
                self._break(UserError(message["refused"]))
                raise WorkerLost("it could not import the reward")
            process.begin_idle()
            self._failed_starts, self._has_started = 0, True
            if not self._started.done():
                self._started.set_result(None)
            return
        item = process.finish_item(self._timeout_s)
        if item is None or message.get("index") != item.index:
            process.give_back(item)
            raise WorkerLost("it replied out of turn")
        if "refused" in message:
            item.batch.fail(UserError(str(message["refused"])))
            return
        try:
            outcome = Outcome(
                Kind(message["kind"]), float(message["score"]), str(message["answer"])
            )
        except (KeyError, ValueError, TypeError) as error:
            process.give_back(item)
            raise WorkerLost("its reply is malformed") from error
        item.batch.set(item.index, outcome)

    def _enforce_deadlines(self) -> None:
        now = time.monotonic()
        for process in list(self._processes):
            if process.deadline is not None and process.deadline <= now:
                # A reply may lie in the pipe when this thread, not the worker, was late.
                self._serve(process, process.reply_fd, selectors.EVENT_READ)
                if process in self._processes and process.deadline and process.deadline <= now:
                    self._bury(process, Kind.TIMEOUT, f"no reply in {self._timeout_s:g} s")

    def _bury(self, process: WorkerProcess, kind: Kind, reason: str) -> None:
        """Ends a worker: `kind` is the outcome of what it was on, the rest of its chunk goes back."""
        self._processes.remove(process)
        was_starting, items = process.starting, process.take_items()
        status = process.end()
        if was_starting:
            self._count_failed_start(status)
            return
        self.workers_lost += 1
        if items:
            first, *rest = items
            logging.log_first_n(
                logging.WARNING,
                "a grading worker was lost on problem %s: %s (exit status %s)",
                5,
                first.problem_id,
                reason,
                status,
            )
            first.batch.set(first.index, Outcome(kind, 0.0))
            with self._lock:
                self._queue.extendleft(reversed(rest))

    def _count_failed_start(self, status: int | None) -> None:
        self._failed_starts += 1
        if self._broken is None and (
            not self._has_started or self._failed_starts >= MAX_FAILED_STARTS
        ):
            self._break(
                UserError(
                    f"workers for the reward {self._path} die while they start (exit status {status}): "
                    "see stderr, and give them more with --reward.memory_mb"
                )
            )

    def _break(self, error: UserError) -> None:
        """No worker can be had: whoever waits, and whoever comes, is told why."""
        with self._lock:
            self._broken = self._broken or error
            waiting = list(self._queue)
            self._queue.clear()
        for process in self._processes:
            waiting += process.take_items()
        for item in waiting:
            item.batch.fail(error)
        if not self._started.done():
            self._started.set_exception(error)

    def _shut_down(self) -> None:
        with self._lock:
            waiting = list(self._queue)
            self._queue.clear()
        for process in self._processes:
            waiting += process.take_items()
            process.end()
        self._processes.clear()
        for item in waiting:
            item.batch.cancel()
        if not self._started.done():
            self._started.set_exception(UserError("the grader was closed before it had started"))
        self._selector.close()
        with self._lock:  # its number may be another file's soon
            write, self._wake_write = self._wake_write, None
        os.close(self._wake_read)
        os.close(write)


def _pickled(response: str, problem: Problem) -> bytes:
    try:
        return pickle.dumps((response, problem), protocol=pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # pickle fails in many ways
        raise UserError(
            f"problem {problem.id} cannot be sent to a worker process ({error}): its metadata must pickle"
        ) from error
