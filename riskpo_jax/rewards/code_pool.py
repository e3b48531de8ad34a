"""Worker processes that answer jobs, and are killed when one takes too long."""

from __future__ import annotations

import contextlib
import queue
import selectors
import subprocess
import threading
import time
from typing import Any

from riskpo_jax.rewards import wire


class Pool:
    """As many processes as there may be jobs at the same time; `ask` waits for a free one.

    A process is `command`, with an empty environment: it reads jobs from its stdin and writes results
    to its stdout, messages of `wire`.
    """

    def __init__(self, command: list[str], workers: int):
        self._all = [_Worker(command) for _ in range(workers)]
        self._free: queue.SimpleQueue[_Worker] = queue.SimpleQueue()
        for worker in self._all:
            self._free.put(worker)

    def ask(self, job: Any, seconds: float) -> Any:
        """The result of a job. Safe in any thread.

        Raises TimeoutError after `seconds`, OSError when the process died, WireError when it talks
        nonsense; each costs the process, and the next job gets a new one.
        """
        worker = self._free.get()
        try:
            return worker.ask(job, seconds)
        finally:
            self._free.put(worker)

    def close(self) -> None:
        """Kills the processes and waits for that; a job in work raises OSError, and any later one."""
        for worker in self._all:
            worker.kill()
        idle = [self._free.get() for _ in self._all]
        for worker in idle:
            worker.end()
            self._free.put(worker)  # for whoever asks from now on: it refuses


class _Worker:
    """A process, started when it is first needed and again after it had to be killed."""

    def __init__(self, command: list[str]):
        self._command = command
        self._process: subprocess.Popen | None = None
        self._closed = False
        self._lock = threading.Lock()

    def ask(self, job: Any, seconds: float) -> Any:
        process = self._running()
        try:
            return _exchange(process, wire.pack(job), time.monotonic() + seconds)
        except BaseException:
            self.end()
            raise

    def _running(self) -> subprocess.Popen:
        with self._lock:
            if self._closed:
                raise OSError("closed")
            if self._process is None:
                self._process = subprocess.Popen(
                    self._command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.DEVNULL,
                    env={},
                    cwd="/",
                    start_new_session=True,
                    bufsize=0,
                )
            return self._process

    def end(self) -> None:
        """Its sandbox dies with it."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()
            process.stdin.close()
            process.stdout.close()

    def kill(self) -> None:
        """Wakes whoever waits for an answer."""
        with self._lock:
            self._closed = True
            if self._process is not None:
                self._process.kill()


def _exchange(process: subprocess.Popen, message: bytes, deadline: float) -> Any:
    view = memoryview(message)
    while view:  # the process is idle and reads at once
        view = view[process.stdin.write(view) :]
    with contextlib.closing(selectors.DefaultSelector()) as selector:
        selector.register(process.stdout, selectors.EVENT_READ)
        length = int.from_bytes(_read(process, selector, 4, deadline), "big")
        return wire.unpack(_read(process, selector, length, deadline))


def _read(process: subprocess.Popen, selector: Any, length: int, deadline: float) -> bytes:
    content = b""
    while len(content) < length:
        if not selector.select(max(0.0, deadline - time.monotonic())):
            raise TimeoutError
        part = process.stdout.read(length - len(content))
        if not part:
            raise BrokenPipeError("it ended")
        content += part
    return content
