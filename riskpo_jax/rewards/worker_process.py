"""The parent's side of one grading process: its pipes, its deadline, what it is working on."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from riskpo_jax.rewards.batches import Item
from riskpo_jax.rewards.worker import frame

MAX_REPLY_BYTES = 2**20  # without a line end; a worker that writes more is not ours any more
MAX_STDERR_BYTES = 2**14  # passed on from one worker, the rest is dropped
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH")


class WorkerLost(Exception):
    """The process is gone, or must go; the text says why."""


class WorkerProcess:
    """One worker, from its start to its end. All calls come from one thread, none blocks.

    deadline: when (time.monotonic) it must have replied, None while nothing is asked of it.
    """

    def __init__(
        self,
        start_message: Mapping[str, Any],
        selector: selectors.BaseSelector,
        start_timeout_s: float,
    ):
        self._selector = selector
        self._process = subprocess.Popen(
            [sys.executable, "-m", "riskpo_jax.rewards.worker", str(os.getpid())],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the parent, which then ends its workers
            bufsize=0,
        )
        self._pipes = (self._process.stdin, self._process.stdout, self._process.stderr)
        for pipe in self._pipes:
            os.set_blocking(pipe.fileno(), False)
        for pipe in self._pipes[1:]:
            selector.register(pipe.fileno(), selectors.EVENT_READ, self)
        self.reply_fd = self._process.stdout.fileno()
        self.starting = True
        self.deadline: float | None = time.monotonic() + start_timeout_s
        self._items: deque[Item] = deque()
        self._outgoing = memoryview(b"")
        self._incoming = bytearray()
        self._stderr_left = MAX_STDERR_BYTES
        self._write(frame(start_message))

    @property
    def busy(self) -> bool:
        return bool(self._items)

    @property
    def idle(self) -> bool:
        return not self.starting and not self._items

    def begin_idle(self) -> None:
        self.starting, self.deadline = False, None

    def send(self, chunk: Sequence[Item], timeout_s: float) -> None:
        """Asks for the outcomes of `chunk`, in order; the first is due in `timeout_s`."""
        self._items.extend(chunk)
        self.deadline = time.monotonic() + timeout_s
        self._write(frame([(item.index, item.request) for item in chunk]))

    def finish_item(self, timeout_s: float) -> Item | None:
        """Takes the item that the worker has replied to; the next one is due in `timeout_s`."""
        item = self._items.popleft() if self._items else None
        self.deadline = time.monotonic() + timeout_s if self._items else None
        return item

    def give_back(self, item: Item | None) -> None:
        if item is not None:
            self._items.appendleft(item)

    def take_items(self) -> list[Item]:
        items, self._items = list(self._items), deque()
        return items

    def pump(self, fd: int, mask: int) -> Iterator[Mapping[str, Any]]:
        """Moves what a pipe is ready for; yields the replies that have come in full.

        Raises:
          WorkerLost: the worker closed its pipe, or wrote what is no reply.
        """
        if fd == self._process.stdin.fileno():
            self._flush()
        elif fd == self._process.stderr.fileno():
            self._pass_on_stderr()
        elif mask & selectors.EVENT_READ:
            yield from self._read_replies()

    def end(self) -> int | None:
        """Kills the process and all that it started in its session; returns its exit status."""
        for pipe in self._pipes:
            with contextlib.suppress(KeyError, ValueError):
                self._selector.unregister(pipe.fileno())
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()
        status = self._process.wait()
        with contextlib.suppress(OSError):
            self._pass_on_stderr()
        for pipe in self._pipes:
            pipe.close()
        return status

    def _write(self, data: bytes) -> None:
        self._outgoing = memoryview(bytes(self._outgoing) + data)
        self._flush()

    def _flush(self) -> None:
        """Writes what the pipe takes; the rest when the selector says that it takes more."""
        fd = self._process.stdin.fileno()
        try:
            while self._outgoing:
                self._outgoing = self._outgoing[os.write(fd, self._outgoing) :]
        except BlockingIOError:
            with contextlib.suppress(KeyError):  # it waits already
                self._selector.register(fd, selectors.EVENT_WRITE, self)
            return
        except BrokenPipeError:  # the closed reply pipe tells the same, in its turn
            self._outgoing = memoryview(b"")
        with contextlib.suppress(KeyError):
            self._selector.unregister(fd)

    def _read_replies(self) -> Iterator[Mapping[str, Any]]:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.reply_fd, 2**16)
            if not data:
                raise WorkerLost("it died")
            self._incoming += data
        *lines, rest = self._incoming.split(b"\n")
        self._incoming = bytearray(rest)
        if len(rest) > MAX_REPLY_BYTES:
            raise WorkerLost("its reply does not end")
        for line in lines:
            try:
                message = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise WorkerLost("its reply is no JSON") from error
            if not isinstance(message, dict):
                raise WorkerLost("its reply is no JSON object")
            yield message

    def _pass_on_stderr(self) -> None:
        with contextlib.suppress(BlockingIOError):
            data = os.read(self._process.stderr.fileno(), 2**16)
            if not data:
                with contextlib.suppress(KeyError, ValueError):
                    self._selector.unregister(self._process.stderr.fileno())
            shown = data[: self._stderr_left]
            self._stderr_left -= len(shown)
            sys.stderr.write(shown.decode("utf-8", "replace"))


def _environment() -> dict[str, str]:
    """What a worker needs of the environment: where to find code, and no secrets."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    path = os.pathsep.join(os.path.abspath(entry) for entry in sys.path)
    return kept | {"PYTHONPATH": path, "PYTHONUTF8": "1", "OMP_NUM_THREADS": "1"}
