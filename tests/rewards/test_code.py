"""Programs graded by the tests of their problems."""

import json
import os
import tempfile
import time
from pathlib import Path

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards import code
from riskpo_jax.rewards.attacks.scene import left_over
from riskpo_jax.rewards.code import CodeGrader
from riskpo_jax.rewards.outcome import NO_ANSWER, Kind
from riskpo_jax.rewards.watchdog import tree

SETTINGS = {"workers": 2, "timeout_s": 20.0, "memory_mb": 256}
SQUARES = ["assert f(2) == 4", "assert f(3) == 9", "assert f(-1) == 1"]
PROMPT = 'def helper(x):\n    return x\n\n\ndef f(x: int) -> int:\n    """Squares."""\n'
CHECK = (
    "def check(candidate):\n    assert candidate(2) == 4\n    assert candidate(3) == helper(9)\n"
)


def grader_or_skip(**settings):
    try:
        return CodeGrader(**SETTINGS | settings)
    except UserError as error:
        pytest.skip(f"NO PROGRAM WAS RUN: {error}")


@pytest.fixture(scope="module")
def grader():
    grader = grader_or_skip(score="fraction")
    yield grader
    grader.close()


def fenced(program):
    return f"So:\n```python\n{program}\n```\nThat is it."


def problem(name="1", **metadata):
    return Problem(name, "", "", "d", metadata=metadata)


def grade(grader, response, **metadata):
    return grader.explain([response], [problem(**metadata)])[0]


@pytest.mark.parametrize(
    ("program", "kind", "score", "reason"),
    [
        ("def f(x): return x * x", Kind.CORRECT, 1.0, ""),
        ("f = lambda x: x ** 2", Kind.CORRECT, 1.0, ""),
        ("def f(x): return 4", Kind.WRONG, 1 / 3, "AssertionError"),
        ("def f(x): return 9 // (x - 3)", Kind.WRONG, 0.0, "AssertionError"),
        ("def f(x): return 1 // (x - 2) and x * x", Kind.WRONG, 2 / 3, "ZeroDivisionError"),
        ("def g(x): return x * x", Kind.WRONG, 0.0, "NameError"),
        ("def f(x): return x *", Kind.WRONG, 0.0, "syntax"),
        ("import numpy\ndef f(x): return x * x", Kind.WRONG, 0.0, "ModuleNotFoundError"),
        ("def f(x): return x * x\nprint(input())", Kind.WRONG, 0.0, "EOFError"),
        ("def f(x):\n    print('noise')\n    return x * x", Kind.CORRECT, 1.0, ""),
    ],
)
def test_a_program_gets_the_fraction_of_its_tests(grader, program, kind, score, reason):
    verdict = grade(grader, fenced(program), test_list=SQUARES)
    assert verdict.outcome.kind is kind
    assert verdict.outcome.score == pytest.approx(score)
    assert verdict.reason == reason


def test_all_or_nothing():
    grader = grader_or_skip(score="all", workers=1)
    verdicts = [
        grade(grader, fenced(f"def f(x): return {e}"), test_list=SQUARES) for e in ("4", "x*x")
    ]
    grader.close()
    assert [v.outcome.score for v in verdicts] == [0.0, 1.0]


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (fenced("def f(x):\n    return x * x"), Kind.CORRECT),
        ("def f(x):\n    return helper(x) * x", Kind.CORRECT),
        ("    return helper(x * x)\n", Kind.CORRECT),
        (fenced("    return helper(x * x)"), Kind.CORRECT),
        ("    return x * x\n\n\nprint(f(2), '...') and so on", Kind.CORRECT),
        (fenced(PROMPT + "    return x * x"), Kind.CORRECT),
        (fenced("def helper(x): return 9\ndef f(x): return 9"), Kind.WRONG),
        ("I give up.", Kind.NO_ANSWER),
        ("", Kind.NO_ANSWER),
    ],
)
def test_humaneval_takes_whole_functions_and_continuations(grader, response, kind):
    metadata = {"prompt": PROMPT, "entry_point": "f", "test": CHECK}
    assert grade(grader, response, **metadata).outcome.kind is kind


def test_tests_run_as_they_are_written(grader):
    """Loops, tolerances, exceptions, None: on the trusted side, with plain values."""
    tests = [
        "for i in range(5):\n    assert f(i) == i * i",
        "assert abs(f(0.5) - 0.25) < 1e-9",
        "assert math.isclose(f(1e3), 1e6)",
        "assert set(map(f, [1, -1])) == {1}",
        "try:\n    f('a')\nexcept TypeError:\n    raised = True\nassert raised",
        "assert g([]) is None and g([0])",
        "assert g((1, {2: [3.0]})) == (1, {2: [3.0]})",
        "assert type(g(True)) is bool",
        "assert g(int) is int",
        "assert str(g(10 ** 3000 % 10 ** 9)) == '0'",
    ]
    program = "def f(x): return x * x\ndef g(x): return x or (0 if x == 0 and x != [] else None)"
    verdict = grade(grader, fenced(program), test_list=tests)
    assert (verdict.reason, verdict.outcome.score) == ("", 1.0)


@pytest.mark.parametrize("program", ["x = 1", "def sum(x): return 0\ndel sum"])
def test_no_builtin_takes_the_place_of_a_missing_function(grader, program):
    tests = ["assert sum([1, 2]) == 3", "assert len([1]) == 1"]
    verdict = grade(grader, fenced(program), test_list=tests, code="def sum(x): return 0")
    assert (verdict.outcome.kind, verdict.reason) == (Kind.WRONG, "NameError")


def test_no_beginning_of_the_prompt_takes_the_place_of_a_missing_function(grader):
    check = "def check(candidate):\n    assert candidate(2) is None\n"
    metadata = {"prompt": PROMPT, "entry_point": "f", "test": check}
    assert grade(grader, fenced("def f(x): pass\ndel f"), **metadata).reason == "NameError"


def test_problems_of_the_same_name_keep_their_tests(grader):
    problems = [problem(test_list=[f"assert f(2) == {n}"]) for n in (4, 5, 4)]
    outcomes = grader.submit([fenced("def f(x): return x * x")] * 3, problems).result(timeout=60)
    assert [o.correct for o in outcomes] == [True, False, True]


def test_a_program_that_hangs_costs_one_limit_not_one_for_each_input():
    grader = grader_or_skip(score="fraction", workers=1, timeout_s=0.5)
    pairs = [{"input": "2", "output": "4"}] + [{"input": "0", "output": "0"}] * 40
    program = "x = int(input())\nprint(x * x)\nwhile not x: pass"
    start = time.monotonic()
    verdict = grade(grader, fenced(program), tests=pairs)
    grader.close()
    assert time.monotonic() - start < 15
    assert verdict.reason == "time" and verdict.outcome.score == pytest.approx(1 / 41)


def test_objects_of_the_program_can_be_handed_back_to_it(grader):
    tests = ["assert total([Pair(1, 2), Pair(3, b=4)]) == 10", "assert Pair(1, 2).swap().a == 2"]
    program = (
        "class Pair:\n"
        "    def __init__(self, a, b): self.a, self.b = a, b\n"
        "    def swap(self): return Pair(self.b, self.a)\n"
        "def total(pairs): return sum(p.a + p.b for p in pairs)\n"
    )
    assert grade(grader, fenced(program), test_list=tests).outcome.correct


def test_leetcode_finds_its_imports(grader):
    test = "def check(candidate):\n    assert candidate(n = [1, 1]) == inf\n\n\ncheck(Solution().run)\n"
    program = (
        "from __future__ import annotations\n"
        "class Solution:\n"
        "    def run(self, n: List[int]) -> float:\n"
        "        return inf if Counter(n)[1] == pow(2, 1, 7) else -math.inf\n"
    )
    assert grade(grader, fenced(program), test=test).outcome.correct


@pytest.mark.parametrize(
    ("program", "kind", "score", "reason"),
    [
        ("print(int(input()) ** 2)", Kind.CORRECT, 1.0, ""),
        (
            "import sys\nfor line in sys.stdin: print(' ', int(line) ** 2, end='  ')",
            Kind.CORRECT,
            1.0,
            "",
        ),
        (
            "import threading\ndef main():\n    print(int(input()) ** 2)\n"
            "if __name__ == '__main__':\n    threading.Thread(target=main).start()",
            Kind.CORRECT,
            1.0,
            "",
        ),
        ("import os\nprint(int(input()) ** 2, flush=True)\nos._exit(1)", Kind.CORRECT, 1.0, ""),
        ("print(4)", Kind.WRONG, 0.5, "output"),
        ("print(float(input()) ** 2)", Kind.WRONG, 0.0, "output"),  # 4.0 is not 4
        ("while True: print('x' * 1000)", Kind.WRONG, 0.0, "output"),
        ("print(", Kind.WRONG, 0.0, "syntax"),
    ],
)
def test_whole_programs_are_judged_by_what_they_print(grader, program, kind, score, reason):
    pairs = [{"input": "2\n", "output": "4\n"}, {"input": "3", "output": "9"}]
    verdict = grade(grader, fenced(program), tests=pairs)
    assert (verdict.outcome.kind, verdict.outcome.score) == (kind, score)
    assert verdict.reason == reason


def test_long_inputs_and_outputs_do_not_block(grader):
    words = "word " * 300_000
    pairs = [{"input": words, "output": words}]
    assert grade(grader, fenced("print(input())"), tests=pairs).outcome.correct
    assert not grade(grader, fenced("print(1)"), tests=pairs).outcome.correct  # never reads it
    long = ["assert len(f('ab' * 500_000)) == 10 ** 6"]
    assert grade(grader, fenced("def f(x): return x[::-1]"), test_list=long).outcome.correct


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        (["assert f(lambda: 1) == 1"], "an argument is a function"),
        (["assert f(open) == 1"], "which is no plain value"),
        (["for _ in []:\n    assert f(1)"], "ran no assert"),
        (["assert True"], "call nothing"),
        (["try:\n    assert f(open)\nexcept Exception:\n    pass"], "which is no plain value"),
    ],
)
def test_tests_that_are_no_calls_are_errors_of_the_grading(grader, tests, reason):
    verdict = grade(grader, fenced("def f(x): return 1"), test_list=tests)
    assert verdict.outcome.kind is Kind.ERROR and reason in verdict.reason


def test_tests_that_hang_are_killed_and_grading_goes_on(monkeypatch):
    monkeypatch.setattr(code, "GRACE_S", 1.0)
    grader = grader_or_skip(score="all", workers=1, timeout_s=0.5)
    hang = ["assert sum(range(f(10 ** 7))) == 0"]  # in C, where no signal comes through
    slow = ["assert f(2) == 4\nwhile f(2): pass"]
    program = fenced("def f(x): return x * x")
    verdicts = [grade(grader, program, test_list=t) for t in (hang, slow, SQUARES)]
    grader.close()
    assert [v.outcome.kind for v in verdicts] == [Kind.TIMEOUT, Kind.WRONG, Kind.CORRECT]
    assert verdicts[1].reason == "time"


def test_a_longer_loop_earns_nothing(grader):
    """An assert passes if it does each time; it is one test, however often it is executed."""
    tests = ["for v in f(3):\n    assert v > 0", "assert f(0) == []", "assert f(1) == [1]"]
    verdict = grade(grader, fenced("def f(x): return [1] * 1000"), test_list=tests)
    assert verdict.outcome.score == pytest.approx(1 / 3)
    once_wrong = grade(grader, fenced("def f(x): return [1] * 999 + [0]"), test_list=tests)
    assert once_wrong.outcome.score == 0.0


@pytest.mark.parametrize(
    ("tail", "reason"),
    [
        ("f(None)", "TypeError"),
        ("g(1)", "exited"),
        ("while f(2): g(0)", "exited"),
        ("assert False", "AssertionError"),
    ],
)
def test_tests_that_do_not_come_to_their_end_have_not_passed(grader, tail, reason):
    """Whatever passed before: all is less than all."""
    program = fenced("import os\ndef f(x): return x * x\ndef g(x): os._exit(0)")
    verdict = grade(grader, program, test_list=["assert f(2) == 4", tail], code="f = g = 1")
    assert verdict.outcome.kind is Kind.WRONG and verdict.reason == reason
    assert 0 < verdict.outcome.score < 1


def test_setup_code_that_fails_is_an_error(grader):
    verdict = grade(grader, fenced("f = abs"), test_list=["assert f(1)"], test_setup_code="1 / 0")
    assert verdict.outcome.kind is Kind.ERROR and "setup code fails" in verdict.reason


def test_a_worker_that_dies_is_replaced(grader):
    crash = ["assert f(__import__('os')._exit(1))"]
    verdict = grade(grader, fenced("def f(x): return x * x"), test_list=crash)
    assert verdict.outcome.kind is Kind.ERROR and "worker" in verdict.reason
    assert grade(grader, fenced("def f(x): return x * x"), test_list=SQUARES).outcome.correct


def test_outcomes_stand_in_the_order_of_the_responses(grader):
    programs = [fenced(f"def f(x): return x * x + {i % 3}") for i in range(12)]
    problems = [problem(str(i % 2), test_list=SQUARES) for i in range(12)]
    futures = [grader.submit(programs, problems) for _ in range(2)]
    for future in futures:
        outcomes = future.result(timeout=60)
        assert [o.correct for o in outcomes] == [i % 3 == 0 for i in range(12)]
        assert outcomes[0].answer == outcomes[3].answer != outcomes[1].answer
    assert grader.submit([], []).result(timeout=1) == []


def test_equal_programs_for_one_problem_run_once(grader, monkeypatch):
    asked = []
    monkeypatch.setattr(grader._pool, "ask", lambda job, seconds: asked.append(job) or 1 / 0)
    future = grader.submit(
        [fenced("f = 1"), "Other words. " + fenced("f = 1"), fenced("f = 1"), fenced("f = 2"), " "],
        [problem(name, test_list=SQUARES) for name in "aabaa"],
    )
    with pytest.raises(ZeroDivisionError):
        future.result(timeout=10)
    time.sleep(0.1)
    assert len(asked) == 3


def test_nothing_runs_for_an_empty_response(grader, monkeypatch):
    monkeypatch.setattr(grader, "_pool", None)
    assert (
        grader.submit(["", " \n", fenced("")], [problem(test_list=SQUARES)] * 3).result()
        == [NO_ANSWER] * 3
    )


def test_closing_ends_what_runs():
    grader = grader_or_skip(score="all", workers=1)
    spin = fenced("def f(x):\n    while True: pass")
    future = grader.submit([spin, fenced("f = 1")], [problem(test_list=SQUARES)] * 2)
    time.sleep(0.3)
    sandboxes = set(tree(os.getpid())) & set(left_over())
    start = time.monotonic()
    grader.close()
    assert time.monotonic() - start < 10
    assert future.done()
    while set(left_over()) & sandboxes and time.monotonic() < start + 20:
        time.sleep(0.05)
    assert not set(left_over()) & sandboxes


def _processes_and_files(pid):
    """Of a process and its descendants, zombies among them: how many, and their open files."""
    pids = tree(pid)
    return len(pids), sum(len(os.listdir(f"/proc/{p}/fd")) for p in pids)


@pytest.mark.parametrize(
    "program",
    [
        "def f(x): return x * x + {}",
        "import os\ndef f(x): os._exit({})",
        "def f(x): return 'x' * 10 ** 7 + str({})",  # killed from outside
        "import os, time\nif os.fork() == 0: time.sleep(100 + {})\ndef f(x): return 1",
    ],
)
def test_programs_leave_nothing_behind(program):
    """A run grades some hundred thousand: one file or zombie for each would end it."""
    grader = grader_or_skip(score="all", workers=1)
    used = []
    for k in range(2):
        programs = [fenced(program.format(10 * k + i + 1)) for i in range(8)]
        grader.submit(programs, [problem(test_list=SQUARES)] * 8).result(timeout=120)
        used.append(_processes_and_files(grader._pool._all[0]._process.pid))
    grader.close()
    assert used[0] == used[1]


def test_verdicts_repeat(grader):
    tests = ["import random\nassert f(random.random()) == 0.5"] * 20
    program = fenced("def f(x): return 0.5 if x < 0.5 else x")
    assert len({grade(grader, program, test_list=tests).outcome.score for _ in range(3)}) == 1


def test_a_run_does_not_start_without_bubblewrap(monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match="apt-get install bubblewrap"):
        CodeGrader(score="all", **SETTINGS)


def test_a_run_does_not_start_where_bubblewrap_fails(monkeypatch):
    """The line has what bubblewrap said, and what can be done."""
    with tempfile.TemporaryDirectory() as folder:  # open to the user that sandboxes have
        os.chmod(folder, 0o755)
        _check_failing_bubblewrap(monkeypatch, Path(folder))


def _check_failing_bubblewrap(monkeypatch, tmp_path):
    (tmp_path / "bwrap").write_text(
        '#!/bin/sh\n[ "$1" = --version ] && echo bubblewrap 0.8.0 && exit\n'
        "echo 'bwrap: No permissions to create new namespace' >&2\nexit 1\n"
    )
    (tmp_path / "bwrap").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError) as raised:
        CodeGrader(score="all", **SETTINGS)
    message = str(raised.value)
    assert "No permissions to create new namespace" in message and "\n" not in message
    assert "docs/rewards_code.md" in message and "--reward.unsafe_code_without_sandbox" in message


def read(path, every=1):
    return [json.loads(line) for line in path.read_text().splitlines()][::every]


@pytest.mark.parametrize(
    ("name", "every", "key", "program"),
    [
        ("humaneval", 3, "task_id", lambda row: row["canonical_solution"]),
        ("humaneval", 5, "task_id", lambda row: fenced(row["prompt"] + row["canonical_solution"])),
        ("mbpp", 20, "task_id", lambda row: fenced(row["code"])),
        ("leetcode_test", 8, "id", lambda row: fenced(row["solution"])),
    ],
)
def test_reference_solutions_pass(shared_data, grader, name, every, key, program):
    """A part of them: experiments.code_report runs all."""
    rows = read(shared_data / f"{name}.jsonl", every)
    problems = [Problem(str(row[key]), "", "", name, metadata=row) for row in rows]
    verdicts = grader.explain([program(row) for row in rows], problems)
    assert [
        (row[key], v) for row, v in zip(rows, verdicts, strict=True) if not v.outcome.correct
    ] == []
    wrong = grader.explain([program(rows[0])], problems[1:2])
    assert not wrong[0].outcome.correct
