"""One program in one sandbox, from start to end: calls go in, plain values come out.

Every byte that comes out is hostile: it is bounded in size, parsed strictly, and can be nothing but a
value. A session ends with its sandbox; nothing of it is used for the next program.
"""

from __future__ import annotations

import builtins
import contextlib
import json
import os
import secrets
import selectors
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from riskpo_jax.rewards import wire
from riskpo_jax.rewards.runtime import Runtime
from riskpo_jax.rewards.sandbox import WORK, Bubblewrap, Limits, guest_arguments, wrapped
from riskpo_jax.rewards.seccomp import build
from riskpo_jax.rewards.watchdog import Watchdog, Watched, tree

START_S = 10.0  # for the interpreter to come up, which is not the program's time
_CHUNK = 1 << 16
_SILENT = (
    StopIteration,
    StopAsyncIteration,
)  # all(map(f, cases)) takes them for the last case's end


class SandboxFailed(Exception):
    """The sandbox itself broke down before it had the program: an error of the grading."""


class ProgramEnded(BaseException):
    """The program has no more to say: why, in a word. No `except Exception` of a test hides it."""


class ProgramRaised(Exception):
    """What the program raised, when that is no builtin exception."""


class Session:
    """Starts a sandbox. `close` (or leaving the `with`) kills everything in it and waits for that.

    `bubblewrap` None runs the guest without a sandbox: limits of the kernel and the watchdog only.
    Raises SandboxFailed if it does not come up.
    """

    def __init__(
        self, bubblewrap: Bubblewrap | None, runtime: Runtime, limits: Limits, watchdog: Watchdog
    ):
        self._limits, self._watchdog = limits, watchdog
        self._reason = ""
        self._init: int | None = None  # a pidfd of the first process inside
        self._is_watched = False
        self._output = {"stdout": bytearray(), "stderr": bytearray()}
        self._selector = selectors.DefaultSelector()
        self._pipes: list[int] = []
        try:
            self._start(bubblewrap, runtime)
            self._await_ready(bubblewrap)
        except BaseException:
            self.close()
            raise

    def _start(self, bubblewrap: Bubblewrap | None, runtime: Runtime) -> None:
        requests, self._requests = self._pipe()
        self._replies, replies = self._pipe()
        given = [requests, replies]
        guest = guest_arguments(self._limits, requests, replies, bubblewrap is not None)
        environment = {}
        if bubblewrap is None:
            command = [runtime.python, *guest]
            environment["LD_LIBRARY_PATH"] = str(runtime.root / "lib")  # of a copied interpreter
        else:
            filter_read, filter_write = self._pipe()
            self._info, info = self._pipe()
            os.write(filter_write, build(os.uname().machine))
            self._close(filter_write)
            given += [filter_read, info]
            command = wrapped(bubblewrap, runtime, self._limits, filter_read, info, guest)
        try:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=given,
                env=environment,
                cwd="/",
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise SandboxFailed(f"cannot start {command[0]}: {error}") from error
        for descriptor in given:
            self._close(descriptor)
        self._watched = Watched(
            pid=self._process.pid,
            memory_bytes=self._limits.memory_mb << 20,
            processes=self._limits.processes,
            files=self._limits.files,
            cpu_s=START_S,
            deadline=time.monotonic() + START_S,
        )
        self._watchdog.add(self._watched)
        self._is_watched = True
        for name in self._output:
            self._selector.register(getattr(self._process, name), selectors.EVENT_READ, name)

    def _await_ready(self, bubblewrap: Bubblewrap | None) -> None:
        try:
            if self._receive() != ["ready"]:
                raise SandboxFailed("the guest did not greet")
        except ProgramEnded as ended:
            raise SandboxFailed(f"{ended}: {self._text('stderr')[-300:]}") from None
        inside = 0
        if bubblewrap is not None:
            inside = json.loads(os.read(self._info, 1024))["child-pid"]
            self._init = os.pidfd_open(inside)
        self._watched = replace(
            self._watched,
            cpu_s=self._limits.seconds,
            deadline=time.monotonic() + self._limits.wall_seconds,
            inside=inside,
            folder=WORK,
        )
        self._watchdog.add(self._watched)

    def ask(self, operation: str, *content: Any) -> Any:
        """Have the guest do something: JSON-ready in, JSON-ready out.

        Raises what the program raised, where that is a builtin Exception, else ProgramRaised; and
        ProgramEnded when no answer can be had any more.
        """
        self._process.stdin.close()  # nothing to read for a program that is called
        nonce = secrets.token_hex(8)
        self._send([nonce, operation, *content])
        match self._receive():
            case [str(echo), "value", value] if echo == nonce:
                return value
            case [str(echo), "raised", [*names], str(text)] if echo == nonce:
                raise _exception(names, text)
        raise self._ended("protocol")

    def run_main(self, source: str, stdin: str) -> str:
        """Run a whole program on an input; what it prints, up to its end.

        Raises ProgramEnded when it exceeds a limit.
        """
        self._send(["", "main", source])
        waiting = memoryview(stdin.encode("utf-8", "surrogateescape"))
        pipe = self._process.stdin
        os.set_blocking(pipe.fileno(), False)
        self._selector.register(pipe, selectors.EVENT_WRITE, "stdin")
        while self._reads() or self._process.poll() is None:
            for key, _ in self._selector.select(0.05):
                if key.data != "stdin":
                    self._drain(key)
                    continue
                try:
                    waiting = waiting[pipe.write(waiting[:_CHUNK]) or 0 :]
                except OSError:  # it reads no more
                    waiting = memoryview(b"")
                if not waiting:
                    self._selector.unregister(pipe)
                    pipe.close()
        if reason := self._unwatch():
            raise ProgramEnded(reason)
        return self._text("stdout")

    def _reads(self) -> bool:
        return any(key.data in self._output for key in self._selector.get_map().values())

    def _text(self, name: str) -> str:
        return self._output[name].decode("utf-8", "replace")

    def _send(self, data: Any) -> None:
        """Requests can be longer than a pipe holds: read what the program prints meanwhile."""
        message = memoryview(wire.pack(data))
        os.set_blocking(self._requests, False)
        self._selector.register(self._requests, selectors.EVENT_WRITE, "request")
        try:
            while message:
                for key, _ in self._selector.select(0.05):
                    if key.data == "request":
                        message = message[os.write(self._requests, message[:_CHUNK]) :]
                    else:
                        self._drain(key)
                self._check_alive()
        except BrokenPipeError:
            raise self._ended("exited") from None
        finally:
            self._selector.unregister(self._requests)

    def _receive(self) -> Any:
        """The next message. Raises ProgramEnded."""
        self._selector.register(self._replies, selectors.EVENT_READ, "reply")
        try:
            length = int.from_bytes(self._read_exactly(4), "big")
            if length > self._limits.output_mb << 20:
                raise self._ended("output")
            return wire.unpack(self._read_exactly(length))
        except wire.WireError:
            raise self._ended("protocol") from None
        finally:
            self._selector.unregister(self._replies)

    def _read_exactly(self, length: int) -> bytes:
        content = bytearray()
        while len(content) < length:
            for key, _ in self._selector.select(0.05):
                if key.data != "reply":
                    self._drain(key)
                    continue
                part = os.read(self._replies, min(_CHUNK, length - len(content)))
                if not part:
                    raise self._ended("exited")
                content += part
            self._check_alive()
        return bytes(content)

    def _drain(self, key: selectors.SelectorKey) -> None:
        part = os.read(key.fd, _CHUNK)
        kept = self._output[key.data]
        if not part:
            self._selector.unregister(key.fileobj)
        kept += part
        if len(kept) > self._limits.output_mb << 20:
            raise self._ended("output")

    def _check_alive(self) -> None:
        # A process that the program left behind may hold the pipe open for ever.
        if self._process.poll() is not None and not self._selector.select(0):
            raise self._ended("exited")

    def _ended(self, reason: str) -> ProgramEnded:
        """The end, at once. The watchdog's reason comes before "exited", which follows from it."""
        self._reason = self._reason or self._unwatch() or reason
        self._kill()
        return ProgramEnded(self._reason)

    def _unwatch(self) -> str:
        """Why the watchdog killed the sandbox, "" if it did not."""
        was_watched, self._is_watched = self._is_watched, False
        return self._watchdog.remove(self._process.pid) if was_watched else self._reason

    def _kill(self) -> None:
        """The death of its init takes every process of the sandbox along."""
        with contextlib.suppress(OSError):
            if self._init is not None:
                signal.pidfd_send_signal(self._init, signal.SIGKILL)
                return
            for pid in reversed(tree(self._process.pid)) if self._process.poll() is None else ():
                os.kill(pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill what is left and wait until it is gone."""
        if hasattr(self, "_watched"):
            self._unwatch()
            if self._process.poll() is None:
                self._kill()
            self._process.wait()
            if self._init is None:
                _end_orphans(self._watchdog.pid)
            else:
                self._reap_init()
            for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
                with contextlib.suppress(OSError):
                    pipe.close()
        for descriptor in [*self._pipes, *([self._init] if self._init is not None else [])]:
            self._close(descriptor)
        self._pipes, self._init = [], None
        self._selector.close()

    def _reap_init(self) -> None:
        """Bubblewrap may end before it has waited for the init, which then is this process's child."""
        with contextlib.suppress(OSError):
            signal.pidfd_send_signal(self._init, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitid(os.P_PIDFD, self._init, os.WEXITED)

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _pipe(self) -> tuple[int, int]:
        pair = os.pipe()
        self._pipes += pair
        return pair

    def _close(self, descriptor: int) -> None:
        with contextlib.suppress(OSError):
            os.close(descriptor)
        if descriptor in self._pipes:
            self._pipes.remove(descriptor)


def _end_orphans(spared: int) -> None:
    """Without a sandbox, processes that lost their parent have become this process's children."""
    orphans = [pid for pid in tree(os.getpid())[1:] if pid != spared]
    for pid in orphans:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    for pid in orphans:
        with contextlib.suppress(OSError):
            os.waitpid(pid, 0)


def _exception(names: Sequence[Any], text: str) -> Exception:
    """Of the first builtin class among the names of an exception's classes, else ProgramRaised."""
    for name in names:
        kind = getattr(builtins, name, None) if isinstance(name, str) else None
        if kind in _SILENT:
            break
        if isinstance(kind, type) and issubclass(kind, Exception) and kind is not Exception:
            with contextlib.suppress(TypeError):  # UnicodeDecodeError, say, takes five arguments
                return kind(text)
    return ProgramRaised(text)
