"""Every attack on the grading of programs, by name, with the machine unharmed."""

import os
import subprocess
import sys
import time

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.attacks import ATTACKS
from riskpo_jax.rewards.attacks.scene import PATIENT_S, SHORT_S, attacked, left_over, scene
from riskpo_jax.rewards.code import CodeGrader
from riskpo_jax.rewards.outcome import Kind
from riskpo_jax.rewards.watchdog import tree

LIMITS = {"score": "fraction", "workers": 4, "memory_mb": 192}
UNGUARDED = [attack for attack in ATTACKS if attack.works_unguarded]


@pytest.fixture(scope="module")
def verdicts():
    """All attacks at once, as a batch of a run would have them; the harm done in words."""
    try:
        graders = [CodeGrader(timeout_s=seconds, **LIMITS) for seconds in (PATIENT_S, SHORT_S)]
    except UserError as error:
        pytest.skip(f"NO ATTACK WAS TRIED: {error}")
    with scene() as place:
        found = attacked(*graders, place, ATTACKS)
        for grader in graders:
            grader.close()
        return found | {"harm": place.harm() + _left_processes()}


def _left_processes():
    """Other tests may grade at the same time: only what stays counts."""
    left = set(left_over())
    end = time.monotonic() + 10
    while left and time.monotonic() < end:
        time.sleep(0.1)
        left &= set(left_over())
    return [f"process {pid} was left over" for pid in left]


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_attack_is_never_correct(verdicts, attack):
    verdict = verdicts[attack.name]
    assert verdict.outcome.kind in (Kind.WRONG, Kind.ERROR)
    assert verdict.outcome.score == 0.0
    assert verdict.reason in attack.ends


def test_nothing_was_harmed(verdicts):
    assert verdicts["harm"] == []


def test_names_are_unique():
    assert len({attack.name for attack in ATTACKS}) == len(ATTACKS)


@pytest.fixture(scope="module")
def unguarded(verdicts):
    """The same programs where there is no bubblewrap and the user wants to go on."""
    with pytest.MonkeyPatch.context() as patch, scene() as place:
        patch.setenv("PATH", "")
        grader = _unguarded_grader()
        found = attacked(grader, grader, place, UNGUARDED)
        grader.close()
        return found | {"harm": place.harm()}


def _unguarded_grader():
    return CodeGrader(timeout_s=PATIENT_S, unsafe=True, **LIMITS)


@pytest.mark.parametrize("attack", UNGUARDED, ids=lambda attack: attack.name)
def test_attack_works_where_there_is_no_sandbox(unguarded, attack):
    """So it is a real attack, and it is the sandbox that stops it above."""
    assert unguarded[attack.name].outcome.correct


def test_harm_is_seen_where_there_is_some(unguarded):
    assert len(unguarded["harm"]) == 4  # a file, TCP, UDP, the abstract socket


def test_an_orphan_is_found_without_a_sandbox(verdicts, monkeypatch):
    monkeypatch.setenv("PATH", "")
    [daemon] = [attack for attack in ATTACKS if attack.name == "double_forked_daemon"]
    grader = _unguarded_grader()
    problem = Problem("1", "", "", "d", metadata={"test_list": [daemon.tests]})
    assert not grader.submit([f"```python\n{daemon.program}```"], [problem]).result()[0].correct
    assert not set(tree(os.getpid())) & set(left_over())
    grader.close()


def test_sandboxes_die_with_a_killed_trainer(verdicts, tmp_path):
    """kill -9 leaves no time to clean up."""
    program = (
        "from riskpo_jax.data.problem import Problem\n"
        "from riskpo_jax.rewards.code import CodeGrader\n"
        "grader = CodeGrader(score='all', workers=1, timeout_s=2.0, memory_mb=192)\n"
        "problem = Problem('1', '', '', 'd', metadata={'test_list': ['assert f(1) == 1']})\n"
        "text = '```python\\nimport time\\ndef f(x): time.sleep(100)\\n```'\n"
        "future = grader.submit([text], [problem])\n"
        "print('busy', flush=True)\n"
        "future.result()\n"
    )
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    trainer = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment
    )
    assert trainer.stdout.readline() == b"busy\n"
    deadline = time.monotonic() + 10
    pids = []
    while not set(pids) & set(left_over()) and time.monotonic() < deadline:
        time.sleep(0.02)
        pids = tree(trainer.pid)[1:]
    assert len(pids) > 3  # the worker, its watchdog, and the sandbox
    trainer.kill()
    trainer.wait()
    trainer.stdout.close()
    while any(map(_is_alive, pids)) and time.monotonic() < deadline + 10:
        time.sleep(0.05)
    assert not any(map(_is_alive, pids))


def _is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rsplit(b")")[-1].split()[0] != b"Z"
    except OSError:
        return False
