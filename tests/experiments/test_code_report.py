"""The program that shows how programs are graded."""

import json

import pytest

from experiments import code_report
from riskpo_jax.errors import UserError
from riskpo_jax.rewards import attacks
from riskpo_jax.rewards.code import CodeGrader

FEW = [a for a in attacks.ATTACKS if a.name in ("os_exit", "tcp", "reading_home")]
ROWS = [
    {"task_id": 1, "code": "def f(x): return x", "test_list": ["assert f(1) == 1"]},
    {"task_id": 2, "code": "import numpy\ndef f(x): return x", "test_list": ["assert f(1) == 1"]},
    {
        "task_id": 3,
        "code": "def f(x): return x",
        "test_list": ["assert f(n) == 1"],
        "test_setup_code": "n = Node()",
    },
]


@pytest.fixture
def report(call, monkeypatch, tmp_path):
    """report(rows): status and output for a folder with these as mbpp.jsonl, and a few attacks."""
    try:
        CodeGrader(score="all", workers=1, timeout_s=5.0, memory_mb=256).close()
    except UserError as error:
        pytest.skip(f"NO PROGRAM WAS RUN: {error}")
    monkeypatch.setattr(code_report, "ATTACKS", FEW)
    monkeypatch.setattr(code_report, "PROGRAMS", 5)
    monkeypatch.setattr(code_report, "WIDTH", 300)

    def run(rows):
        (tmp_path / "mbpp.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        status, out, _ = call(code_report, f"--folder={tmp_path}", "--reward.workers=1")
        return status, out

    return run


def test_what_is_well_is_status_0(report):
    status, out = report(ROWS)
    assert status == 0
    assert all(word in out for word in ("os_exit", "exited", "reading_home", "none", "programs/s"))
    assert "2: ModuleNotFoundError" in out and "needs Node" in out


def test_a_wrong_reference_is_status_1(report):
    status, out = report([*ROWS, ROWS[0] | {"task_id": 4, "code": "def f(x): return 2"}])
    assert status == 1
    assert "4: AssertionError" in out


def test_an_attack_that_ends_otherwise_is_status_1(report, monkeypatch):
    honest = attacks.attack.attack("honest", "def f(x): return x * x")
    monkeypatch.setattr(code_report, "ATTACKS", [honest])
    status, out = report(ROWS)
    assert status == 1
    assert "(!)" in out


def test_a_folder_without_data_is_named(call, tmp_path):
    status, _, err = call(code_report, f"--folder={tmp_path}")
    assert status == 1 and "has none of humaneval" in err
