"""The sandbox's command line, runtime and watchdog."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.rewards import runtime, watchdog
from riskpo_jax.rewards.runtime import Runtime, find_runtime
from riskpo_jax.rewards.sandbox import Bubblewrap, Limits, find_bubblewrap, guest_source, wrapped

ROOT = Path(__file__).parents[2]


def test_a_missing_bubblewrap_is_named_with_the_remedy(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="bubblewrap, which is missing.*apt-get install bubblewrap"):
        find_bubblewrap()


def test_a_machine_without_a_filter_is_refused(monkeypatch, tmp_path):
    (tmp_path / "bwrap").write_text("#!/bin/sh\necho bubblewrap 0.8.0\n")
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_bubblewrap().version == (0, 8)
    names = list(os.uname())
    monkeypatch.setattr(os, "uname", lambda: os.uname_result([*names[:4], "s390x"]))
    with pytest.raises(UserError, match="no seccomp filter for s390x"):
        find_bubblewrap()


def command(version=(0, 8)):
    place = Runtime(runtime.Path("/opt/py"), "bin/python3", ("bin/python3", "lib/python3.11"))
    return wrapped(Bubblewrap("/usr/bin/bwrap", version), place, Limits(), 7, 8, ["-c", "0"])


def test_the_command_shares_nothing_that_a_program_does_not_need():
    arguments = command()
    for flag in ("--unshare-all", "--die-with-parent", "--new-session", "--clearenv"):
        assert flag in arguments
    assert arguments[arguments.index("--cap-drop") + 1] == "ALL"
    assert not {"--share-net", "--bind", "--dev", "--proc", "--keep-fd"} & set(arguments)
    bound = [arguments[i + 1] for i, word in enumerate(arguments) if word.endswith("-bind")]
    system = (
        "/usr/lib",
        "/lib",
        "/opt/py/",
        "/dev/null",
        "/dev/zero",
        "/dev/random",
        "/dev/urandom",
    )
    assert bound and all(source.startswith(system) for source in bound)
    assert arguments.index("--remount-ro") < arguments.index("--")
    assert arguments[arguments.index("--") :] == ["--", "/python/bin/python3", "-c", "0"]


def test_a_folder_to_write_in_has_a_size_or_is_not_there():
    arguments = command()
    assert arguments[arguments.index("--size") :][:4] == [
        "--size",
        str(16 << 20),
        "--tmpfs",
        "/box",
    ]
    old = command(version=(0, 6))
    assert "--size" not in old and "--tmpfs" not in old


def test_the_guest_needs_nothing_of_this_package():
    text = guest_source()
    assert "riskpo_jax" not in text
    compile(text, "guest", "exec")


def test_a_runtime_that_not_everyone_can_read_is_copied(monkeypatch, tmp_path):
    monkeypatch.setattr(runtime.tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(runtime, "_anyone_reads", lambda path: False)
    tmp_path.chmod(0o755)
    stale = tmp_path / "riskpo-python-999999999-x"
    stale.mkdir()
    found = find_runtime.__wrapped__(True)
    assert found.root.parent == tmp_path and not stale.exists()
    assert not [name for name in runtime.UNUSED if (found.root / found.parts[1] / name).exists()]
    loose = [path for path in found.root.rglob("*") if not path.stat().st_mode & 0o004]
    assert loose == []
    options = ["-I", "-S", "-c", "import json, random, sys; print(sys.version)"]
    said = subprocess.run([found.python, *options], capture_output=True, text=True, env={})
    assert said.stdout.strip() == sys.version


def test_a_runtime_that_everyone_can_read_is_used_as_it_is(monkeypatch):
    monkeypatch.setattr(runtime, "_anyone_reads", lambda path: True)
    found = find_runtime.__wrapped__(True)
    assert str(found.root) == os.path.realpath(sys.base_prefix)
    assert all((found.root / part).exists() for part in found.parts)


GREEDY = """
import os, sys, time
block = b"x" * (40 << 20)
for _ in range(2):
    if os.fork() == 0:
        break
print(flush=True)
time.sleep(60)
"""


@pytest.fixture
def family():
    """A process with two children that share its 40 MiB."""
    process = subprocess.Popen([sys.executable, "-c", GREEDY], stdout=subprocess.PIPE)
    for _ in range(3):
        process.stdout.readline()
    yield process
    for pid in reversed(watchdog.tree(process.pid)) if process.poll() is None else ():
        os.kill(pid, 9)
    process.wait()
    process.stdout.close()


def watched(pid, **limits):
    generous = {"memory_bytes": 1 << 40, "processes": 100, "files": 10**9, "cpu_s": 1e9}
    return watchdog.Watched(pid, **generous | {"deadline": float("inf")} | limits)


def test_shared_pages_count_once(family):
    pids = watchdog.tree(family.pid)
    assert len(pids) == 3
    assert watchdog.resident_bytes(pids) > 120 << 20
    assert 40 << 20 < watchdog.proportional_bytes(pids) < 100 << 20


def test_violations_are_named(family, tmp_path):
    assert watchdog.violation(watched(family.pid)) is None
    assert watchdog.violation(watched(family.pid, memory_bytes=100 << 20)) is None
    assert watchdog.violation(watched(family.pid, memory_bytes=30 << 20)) == "memory"
    assert watchdog.violation(watched(family.pid, processes=0)) == "processes"
    assert watchdog.violation(watched(family.pid, cpu_s=0)) == "time"
    assert watchdog.violation(watched(family.pid, deadline=time.monotonic() - 1)) == "time"
    here = {"inside": os.getpid(), "folder": str(tmp_path)}
    assert watchdog.violation(watched(family.pid, files=0, **here)) == "files"


def test_the_watchdog_kills_a_tree_and_says_why(family):
    pids = watchdog.tree(family.pid)
    program = (
        "import time; from riskpo_jax.rewards.watchdog import *\n"
        f"generous = Watched({family.pid}, 1 << 40, 100, 1, 1e9, float('inf'))\n"
        f"strict = Watched({family.pid}, 30 << 20, 100, 1, 1e9, float('inf'))\n"
        "dog = Watchdog()\n"
        "for watched in (generous, strict):\n"
        "    dog.add(watched)\n"
        "    time.sleep(1)\n"
        "    print(repr(dog.remove(watched.pid)))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", program], capture_output=True, env=environment)
    assert said.stdout.split() == [b"''", b"'memory'"]
    assert family.wait(timeout=10) == -9
    assert all(watchdog.resident_bytes([pid]) == 0 for pid in pids)


def test_time_of_children_counts_when_they_are_gone():
    program = (
        "import os, time\n"
        "if os.fork() == 0:\n"
        "    while time.process_time() < 0.3: pass\n"
        "    os._exit(0)\n"
        "os.wait()\n"
        "print(flush=True)\n"
        "time.sleep(60)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        assert 0.25 < watchdog.cpu_seconds(watchdog.tree(process.pid)) < 3
        process.kill()


def test_what_is_gone_takes_nothing():
    assert watchdog.tree(2**22 + 1) == [2**22 + 1]
    assert watchdog.resident_bytes([2**22 + 1]) == watchdog.proportional_bytes([2**22 + 1]) == 0
    assert watchdog.cpu_seconds([2**22 + 1]) == 0
    assert watchdog.disk_use("/nowhere") == (0, 0)
