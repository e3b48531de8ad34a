"""The bait that attacks go for, and whether it is still as it was."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.attacks.attack import Attack
from riskpo_jax.rewards.code import CodeGrader, Verdict
from riskpo_jax.rewards.sandbox import NOBODY

SHORT_S, PATIENT_S = 1.0, 30.0
_BAIT_VARIABLE = "RISKPO_BAIT"
_GUEST = b"RLIMIT_NOFILE"  # stands among the arguments of every sandbox, and of nothing else


@dataclass
class Scene:
    """A folder with secrets, a process, listeners. `harm` lists in words what attacks did to them."""

    folder: Path
    victim: subprocess.Popen
    tcp: socket.socket
    udp: socket.socket
    abstract: socket.socket
    name: str

    def program(self, attack: Attack) -> str:
        """An attack's program, aimed at this scene."""
        targets = {
            "@HOME@": self.folder / "home",
            "@ANSWERS@": self.folder / "answers.jsonl",
            "@OUTSIDE@": self.folder / "outside",
            "@VICTIM@": self.victim.pid,
            "@PARENT@": os.getpid(),
            "@TCP@": self.tcp.getsockname()[1],
            "@UDP@": self.udp.getsockname()[1],
            "@ABSTRACT@": self.name,
        }
        program = attack.program
        for word, target in targets.items():
            program = program.replace(word, str(target))
        return program

    def harm(self) -> list[str]:
        found = []
        if (self.folder / "outside").read_text() != "untouched":
            found.append("a file outside was written")
        if self.victim.poll() is not None:
            found.append("a process outside was killed")
        for kind in ("tcp", "abstract"):
            with contextlib.suppress(BlockingIOError):
                getattr(self, kind).accept()[0].close()
                found.append(f"a connection came in by {kind}")
        with contextlib.suppress(BlockingIOError):
            self.udp.recv(100)
            found.append("a packet came in by udp")
        if Path("/dev/shm/riskpo_bait").exists():
            found.append("a file lies in /dev/shm")
        return found


@contextlib.contextmanager
def scene() -> Iterator[Scene]:
    """Sets up the bait, readable and writable by everyone, so that only the sandbox protects it."""
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="riskpo-bait-")))
        _write_bait(folder)
        stack.enter_context(_environment(_BAIT_VARIABLE, "hf_bait"))
        name = f"riskpo-{secrets.token_hex(8)}"
        yield Scene(
            folder=folder,
            victim=stack.enter_context(_victim()),
            tcp=stack.enter_context(_listening(socket.AF_INET, ("127.0.0.1", 0))),
            udp=stack.enter_context(_bound(socket.AF_INET, ("127.0.0.1", 0), socket.SOCK_DGRAM)),
            abstract=stack.enter_context(_listening(socket.AF_UNIX, f"\0{name}")),
            name=name,
        )


def _write_bait(folder: Path) -> None:
    folder.chmod(0o755)
    token = folder / "home/.cache/huggingface/token"
    token.parent.mkdir(parents=True)
    token.write_text("hf_bait")
    (folder / "home/test_f.py").write_text("assert f(7) == 49\n")
    (folder / "answers.jsonl").write_text(json.dumps({"answer": 730914862}) + "\n")
    (folder / "outside").write_text("untouched")
    (folder / "outside").chmod(0o666)


@contextlib.contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    os.environ[name] = value
    try:
        yield
    finally:
        del os.environ[name]


@contextlib.contextmanager
def _victim() -> Iterator[subprocess.Popen]:
    """A process of the user that sandboxes have, so that nothing but the sandbox protects it."""
    user = {"user": NOBODY, "group": NOBODY, "extra_groups": []} if os.getuid() == 0 else {}
    process = subprocess.Popen(["/bin/sleep", "1000"], cwd="/", **user)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def _bound(family: int, address: object, kind: int) -> Iterator[socket.socket]:
    with socket.socket(family, kind) as listener:
        listener.bind(address)
        listener.setblocking(False)
        yield listener


@contextlib.contextmanager
def _listening(family: int, address: object) -> Iterator[socket.socket]:
    with _bound(family, address, socket.SOCK_STREAM) as listener:
        listener.listen()
        yield listener


def attacked(
    patient: CodeGrader, short: CodeGrader, place: Scene, attacks: Sequence[Attack]
) -> dict[str, Verdict]:
    """What graders say about attacks, by name.

    Attacks that only time can stop are for the one that gives SHORT_S to a program; the others should
    meet a limit of their own before PATIENT_S are over.
    """
    verdicts: dict[str, Verdict] = {}
    for grader, is_timed in ((patient, False), (short, True)):
        chosen = [attack for attack in attacks if ("time" in attack.ends) is is_timed]
        found = grader.explain(
            [f"```python\n{place.program(attack)}\n```" for attack in chosen],
            [_problem(attack) for attack in chosen],
        )
        verdicts |= {attack.name: verdict for attack, verdict in zip(chosen, found, strict=True)}
    return verdicts


def _problem(attack: Attack) -> Problem:
    return Problem(attack.name, "", "", "attacks", metadata={"test_list": [attack.tests]})


def left_over() -> list[int]:
    """Processes of sandboxes, of anyone's graders on this machine."""
    pids = []
    for folder in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if folder.name.isdigit() and _GUEST in (folder / "cmdline").read_bytes():
                pids.append(int(folder.name))
    return [pid for pid in pids if pid != os.getpid()]
