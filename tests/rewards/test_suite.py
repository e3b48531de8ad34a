"""Tests read from metadata, as the data sets have them."""

import json

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards.program import parse
from riskpo_jax.rewards.suite import imports_for, suite_of, unsupported


def problem(**metadata):
    return Problem("1", "", "", "d", metadata=metadata)


def test_mbpp_names_what_the_program_must_define():
    suite = suite_of(
        problem(test_list=["assert f(len([1])) == 1", "assert abs(g(2)) == [y for y in [2]]"])
    )
    assert suite.names == ("f", "g")
    assert "challenge" not in suite.tests


def test_a_function_may_have_the_name_of_a_builtin():
    tests = ["assert sum(3) == 6"]
    assert suite_of(problem(test_list=tests, code="def sum(n): return 6")).names == ("sum",)
    assert "call nothing" in unsupported(problem(test_list=tests))


def test_what_only_the_reference_imports_is_not_asked_of_the_program():
    """It would be handed the expected value, and could say that all is close to it."""
    code = "import numpy as np\nfrom cmath import isclose\ndef f(x): return x"
    for tests in (["assert np.allclose(f(2), 4)"], ["assert isclose(f(2), 4)"]):
        assert "only the reference imports" in unsupported(problem(test_list=tests, code=code))
    tests = ["import cmath\nassert cmath.isclose(f(2), 4)"]
    assert suite_of(problem(test_list=tests, code="import cmath\nf = abs")).names == ("f",)


def test_setup_code_may_use_what_tests_may():
    setup = "import heapq\nbase = math.pi + heapq.nlargest(1, [2])[0]\r\n"
    assert suite_of(problem(test_list=["assert f(base) == 1"], test_setup_code=setup)).names == (
        "f",
    )


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        ({}, "no tests"),
        ({"test_list": []}, "test_list"),
        ({"test_list": 5}, "test_list"),
        ({"test_list": ["assert f("]}, "no Python"),
        ({"test_list": ["f(1)"]}, "assert nothing"),
        ({"test_list": ["assert f(t) == 1"], "test_setup_code": "t = Node(1)"}, "needs Node"),
        ({"entry_point": "f", "prompt": "def f(x):\n", "test": "def check(c): pass"}, "no Python"),
        ({"entry_point": "f", "prompt": "", "test": 3}, "test is no text"),
        ({"test": "def check(candidate): pass"}, "call nothing"),
        ({"tests": [{"input": "1"}]}, "input, output"),
        ({"tests": []}, "pairs"),
        ({"tests": [{"input": "1", "output": 1}]}, "pairs"),
        ({"tests": 5}, "input, output"),
    ],
)
def test_what_cannot_be_turned_into_calls_is_reported(metadata, reason):
    assert reason in unsupported(problem(**metadata))


def test_only_imports_that_are_used_are_made():
    program = "def f(n: List[int]): return Counter(pow(sqrt(inf), 1, 2)), heapq.merge, len"
    line = imports_for(program)
    assert set(line.split("; ")) == {
        "import heapq",
        "from typing import List",
        "from collections import Counter",
        "from math import sqrt",
        "from math import inf",
    }
    assert parse(line) and imports_for("x = 1") == ""


def test_of_mbpp_two_problems_are_unsupported(shared_data):
    """The README of the data says which: they need a class that is not given."""
    rows = map(json.loads, (shared_data / "mbpp.jsonl").read_text().splitlines())
    reasons = {row["task_id"]: unsupported(problem(**row)) for row in rows}
    assert {task for task, reason in reasons.items() if reason} == {367, 927}
    assert "needs Node" in reasons[367]


@pytest.mark.parametrize(
    "name", ["humaneval", "leetcode_train", "leetcode_test", "codeforces_stdio"]
)
def test_every_other_problem_is_supported(shared_data, name):
    rows = map(json.loads, (shared_data / f"{name}.jsonl").read_text().splitlines())
    assert [reason for row in rows if (reason := unsupported(problem(**row)))] == []
