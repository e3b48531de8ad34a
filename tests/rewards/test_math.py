"""Grading of mathematics by hand, on real answers, and when the grader fails."""

import threading

import pytest

from riskpo_jax.data.jsonl import JsonlSource
from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards import math
from riskpo_jax.rewards.math import final_answer, grade, math_reward, normalise
from riskpo_jax.rewards.outcome import Kind

CORRECT = [
    ("5", "5"),
    ("x=5", "5"),
    ("x = 2+3 = 5", "5"),
    ("2+3=5", "5"),
    (r"\angle A = 30", "30"),
    ("f(x)=x+1", "x+1"),
    ("y=2x+1", "y=2x+1"),
    (r"\frac{1}{2}", "0.5"),
    (r"\dfrac12", r"\frac{1}{2}"),
    ("1/2", r"\frac{1}{2}"),
    (r"1\frac{1}{2}", r"\frac{3}{2}"),
    ("10,000", "10000"),
    ("10{,}000", "10000"),
    (r"10\,000", "10000"),
    (r"\$18", "18"),
    ("18.00", "18"),
    (r"18 \text{ dollars}", "18"),
    (r"5\text{ cm}", "5"),
    (r"50\%", r"50\%"),
    (r"90^\circ", "90"),
    (r"\text{Evelyn}", "Evelyn"),
    (r"(3, \frac{\pi}{2})", r"\left( 3, \frac{\pi}{2} \right)"),
    (r"\{1,2\}", r"\{2,1\}"),
    ("2, 1", "1,2"),
    ("x^2+2x+1", "(x+1)^2"),
    (r"\sqrt{8}", r"2\sqrt{2}"),
    ("2^{10}", "1024"),
    ("3+4i", "4i+3"),
    (r"x \in [1,2)", "[1,2)"),
    (r"\begin{pmatrix}1\\2\end{pmatrix}", r"\begin{pmatrix} 1 \\ 2 \end{pmatrix}"),
]
WRONG = [
    ("4", "5"),
    ("4=5", "5"),
    ("x=4=5", "5"),
    ("2+2=5", "5"),
    ("-3", "3"),
    ("5x", "5"),
    ("x<5", "5"),
    ("1 1/2", "11/2"),
    ("(1,2)", "(2,1)"),
    ("[1,2]", "[1,2)"),
    ("0.333", r"\frac{1}{3}"),
    ("]", "3"),
    ("1+" * 300 + "1", "301"),
]


@pytest.mark.parametrize(("answer", "gold"), CORRECT)
def test_correct(answer, gold):
    assert grade(f"So we get \\boxed{{{answer}}}.", gold).correct


@pytest.mark.parametrize(("answer", "gold"), WRONG)
def test_wrong(answer, gold):
    outcome = grade(f"So we get $\\boxed{{{answer}}}$.", gold)
    assert outcome.kind is Kind.WRONG and outcome.score == 0.0


@pytest.mark.parametrize(
    ("response", "answer"),
    [
        (r"\boxed{2} then \boxed{3}", "3"),
        (r"#### 4" + "\n" + r"\boxed{3}", "3"),
        ("work\n#### 72", "72"),
        ("The answer is 72.", "72"),
        ("The answer is: $72$. I am sure", "72"),
        (r"the answer is \(72\).", "72"),
        ("the answer is **72**", "72"),
        (r"\boxed{$x = 4$}", "x = 4"),
        ("the answer is 7\nNo, the final answer is 8\n", "8"),
        ("I tried 1, 2, 3", None),
        ("the answer is\n", None),
        (r"\boxed{7", None),
    ],
)
def test_where_the_answer_stands(response, answer):
    assert final_answer(response) == answer


@pytest.mark.parametrize("response", ["", "I tried 1, 2, 3", r"\boxed{}", r"\boxed{ $ }", "3"])
def test_no_answer(response):
    assert grade(response, "3").kind is Kind.NO_ANSWER


def test_delimiters_do_not_hide_an_equation():
    assert grade(r"\boxed{$x=4$}", "4").correct
    assert grade("the answer is $x = 4$", "4").correct
    assert grade("the answer is **12**.", "12").correct


@pytest.mark.parametrize("filler", ["*", "$", " ", "."])
def test_a_megabyte_of_delimiters_ends(filler):
    """In quadratic time this would take hours."""
    assert grade("\\boxed{x" + filler * 10**6 + "x}", "5").kind is Kind.WRONG


def test_normal_form():
    same = ["1,234", "1{,}234", r"1\,234", "$1234$", "1234.", r"\text{1234}", r" \left 1234"]
    assert {normalise(answer) for answer in same} == {"1234"}
    assert normalise("1 1/2") != normalise("11/2")
    assert normalise(r"18 \text{ dollars}") == "18 dollars"
    assert grade(r"\boxed{\dfrac{1}{2}}", "x").answer == r"\frac{1}{2}"


@pytest.mark.parametrize("bomb", ["9^{9^{9^9}}", "10000000!"])
def test_a_bomb_is_a_timeout_not_a_wrong_answer(monkeypatch, bomb):
    monkeypatch.setattr(math, "TIMEOUT_SECONDS", 1)
    outcome = grade(f"\\boxed{{{bomb}}}", "5")
    assert outcome.kind is Kind.TIMEOUT and outcome.score == 0.0


def test_a_failing_grader_is_an_error_not_a_wrong_answer(monkeypatch):
    def fail(*args, **kwargs):
        raise RecursionError("too deep")

    monkeypatch.setattr(math, "verify", fail)
    outcome = grade(r"\boxed{4}", "5")
    assert outcome.kind is Kind.ERROR and outcome.score == 0.0
    assert grade(r"\boxed{5}", "5").correct  # equal texts need no grader


def test_works_off_the_main_thread():
    outcomes = []

    def work():
        outcomes.extend(grade(f"\\boxed{{{answer}}}", r"\frac{1}{2}") for answer in ("0.5", "0.6"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [o.kind for o in outcomes] == [Kind.CORRECT, Kind.WRONG]


def test_math_reward_grades_against_the_problem():
    problem = Problem("p", "?", r"\frac{1}{2}", "math")
    assert math_reward(r"\boxed{0.5}", problem).correct
    assert not math_reward(r"\boxed{0.4}", problem).correct


def test_gsm8k_golds(shared_data):
    """A real answer is graded correct in three spellings, and its neighbour wrong."""
    source = JsonlSource(shared_data / "gsm8k_train.jsonl")
    for problem in (source[i] for i in range(0, len(source), 75)):
        gold = problem.answer
        for response in (f"\\boxed{{\\${gold}.0}}", f"The answer is {gold}.", f"#### {gold}"):
            assert grade(response, gold).correct, (response, gold)
        assert grade(f"\\boxed{{{gold.replace(',', '')}1}}", gold).kind is Kind.WRONG, gold


def test_math500_solutions(shared_data):
    """The reference solution of every problem is graded correct, another problem's is not."""
    source = JsonlSource(shared_data / "math500.jsonl")
    problems = [source[i] for i in range(0, len(source), 5)]
    for problem, other in zip(problems, problems[1:] + problems[:1], strict=True):
        assert grade(problem.metadata["solution"], problem.answer).correct, problem.id
        if normalise(other.answer) != normalise(problem.answer):
            assert not grade(f"\\boxed{{{other.answer}}}", problem.answer).correct, problem.id
