"""The mathematics reward: what counts as an answer, options, bombs, real references."""

import re
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.data.jsonl import JsonlSource
from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards import math
from riskpo_jax.rewards.math import grade, math_reward
from riskpo_jax.rewards.math_quantities import Tolerance
from riskpo_jax.rewards.math_text import normalise
from riskpo_jax.rewards.outcome import Kind


def boxed(answer: str, gold: str, **options):
    return grade(f"So we get $\\boxed{{{answer}}}$.", gold, **options)


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        (r"\boxed{2} then \boxed{3}", Kind.CORRECT),
        (r"\boxed{3} then \boxed{2}", Kind.WRONG),
        (r"\boxed{\boxed{3}}", Kind.CORRECT),
        (r"\boxed{3} \boxed{}", Kind.NO_ANSWER),
        (r"\boxed{7", Kind.NO_ANSWER),
        (r"\boxed{ $ }", Kind.NO_ANSWER),
        ("The answer is 3.", Kind.NO_ANSWER),
        ("I tried 1, 2, 3", Kind.NO_ANSWER),
        ("#### 3", Kind.NO_ANSWER),
        ("3", Kind.NO_ANSWER),
        ("", Kind.NO_ANSWER),
    ],
)
def test_only_the_last_box_is_an_answer(response, kind):
    assert grade(response, "3").kind is kind


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ("6 * 3 = 18\n#### 18", Kind.CORRECT),
        ("#### 5\nno,\n#### $18\nclips", Kind.CORRECT),
        ("#### 18\n" + r"\boxed{17}", Kind.WRONG),
        ("####\n18", Kind.NO_ANSWER),
        ("The answer is 18", Kind.NO_ANSWER),
    ],
)
def test_hashes_count_without_a_box_when_asked(response, kind):
    assert grade(response, "18", final_answer="hashes").kind is kind


@pytest.mark.parametrize(
    "hedge",
    [
        r"\text{(A)} B",
        r"\text{(A) }\text{(B)}",
        "(A)(B)(C)",
        r"\textbf{(A)}\ 7\ \textbf{(B)}\ 8",
        r"\text{(A) }\text{ or (B)}",
        r"\textbf{(A)}\ \text{B}",
    ],
)
def test_two_choices_are_none(hedge):
    assert boxed(r"\textbf{(A)}\ 7", "A").correct and boxed(r"\textbf{(A)}\ 7", "7").correct
    assert not any(boxed(hedge, gold).correct for gold in "AB")


def test_a_raw_gsm8k_gold_is_reduced():
    gold = "She makes 9 * 2 = $<<9*2=18>>18 every day.\n#### 18"
    assert boxed("18", gold).correct and not boxed("9", gold).correct
    assert boxed("70000", "so\n#### 70,000").correct


def test_format_credit_is_for_a_wrong_answer_in_its_place():
    problem = Problem("p", "?", "5", "math")
    credited = math_reward(r"\boxed{4}", problem, format_credit=0.1)
    assert (credited.kind, credited.score) == (Kind.WRONG, 0.1)
    assert math_reward("4", problem, format_credit=0.1).score == 0.0
    assert math_reward(r"\boxed{5}", problem, format_credit=0.1).score == 1.0
    bomb = math_reward(r"\boxed{9^{9^{9^9}}}", problem, format_credit=0.1)
    assert (bomb.kind, bomb.score) == (Kind.TIMEOUT, 0.0)


def test_metadata():
    energy = Problem("p", "?", "1.6", "d", metadata={"alt_answers": ["1.7", r"\frac{9}{5}"]})
    for answer, correct in (("1.6", True), ("1.7", True), ("1.8", True), ("1.65", False)):
        assert math_reward(f"\\boxed{{{answer}}}", energy).correct is correct
    area = Problem("p", "?", "166", "d", metadata={"unit": "$cm^2$", "tolerance": None})
    assert math_reward(r"\boxed{166 \text{ cm}^2}", area).correct
    assert not math_reward(r"\boxed{166 \text{ cm}^3}", area).correct
    rounded = Problem("p", "?", "1.5", "d", metadata={"tolerance": "1e-1"})
    assert math_reward(r"\boxed{1.6}", rounded).correct
    assert not math_reward(r"\boxed{1.7}", rounded).correct


def test_measured_values_have_a_relative_tolerance():
    assert boxed(r"3.84 \times 10^{35}", "3.83e35", tolerance=Tolerance(relative=0.01)).correct
    assert not boxed(r"3.84 \times 10^{35}", "3.83e35").correct
    minerva, exact = (Problem("p", "?", "0.022", name) for name in ("minerva", "math"))
    assert math_reward(r"\boxed{0.0221}", minerva).correct
    assert not math_reward(r"\boxed{0.023}", minerva).correct
    assert not math_reward(r"\boxed{0.0221}", exact).correct


@pytest.mark.parametrize(
    "bomb",
    [
        "9^{9^{9^9}}",
        "10000000!",
        "5!!!!!!",
        r"\binom{10^9}{10^8}",
        "2^{10^{10}}",
        r"\lfloor 10^{10^{10}} \rfloor",
        r"\sin(10^{9999})",
        "2^{" * 40 + "2" + "}" * 40,
        "(" * 200 + "x" + ")" * 200,
    ],
)
def test_a_bomb_is_refused_at_once_as_a_timeout(bomb):
    started = time.perf_counter()
    outcome = boxed(bomb, "5")
    assert outcome.kind is Kind.TIMEOUT and outcome.score == 0.0
    assert time.perf_counter() - started < 2.0


@pytest.mark.parametrize("sum_", [r"\sum_{i=1}^{10^{10}} i", r"\int_0^1 x\,dx", r"\gcd(4,6)"])
def test_what_is_left_to_be_computed_is_no_answer_but_wrong(sum_):
    assert boxed(sum_, "5").kind is Kind.WRONG
    assert boxed(sum_, sum_).correct


@pytest.mark.parametrize("filler", ["*", "$", " ", ".", "{", "}", r"\text{", r"\boxed{", r"\frac"])
def test_a_megabyte_ends(filler):
    """In quadratic time this would take hours."""
    started = time.perf_counter()
    assert not grade("\\boxed{x" + filler * (10**6 // len(filler)) + "x}", "5").correct
    assert time.perf_counter() - started < 10.0


def test_a_failing_grader_is_an_error_not_a_wrong_answer(monkeypatch):
    def fail(*args, **kwargs):
        raise RecursionError("too deep")

    monkeypatch.setattr(math, "same", fail)
    outcome = boxed("4", "5")
    assert outcome.kind is Kind.ERROR and outcome.score == 0.0
    assert boxed("5", "5").correct  # equal texts need no comparison


def test_works_off_the_main_thread():
    outcomes = []

    def work():
        outcomes.extend(boxed(answer, r"\frac{1}{2}") for answer in ("0.5", "0.6"))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert [o.kind for o in outcomes] == [Kind.CORRECT, Kind.WRONG]


PIECES = r"\frac \sqrt { } ( ) [ ] ^ _ 1 2 5 x \pm + - = < \le , ; \text{ cm % \% \$ \\ & \cup \infty \pi "
PIECES += (
    r"! . | : e i \{ \} ' \sin \log ^\circ or \in \approx * / \binom \lfloor \rfloor \gamma E I "
)
PIECES += r"\begin{pmatrix} \end{pmatrix} \overline{3} \ne"
GOLDS = [
    "5",
    "x^2+1",
    "(1,2)",
    "1,2",
    r"(-\infty,2)\cup(3,\infty)",
    "52_8",
    r"15\mbox{ cm}^2",
    "y=2x",
]


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*PIECES.split(), " "]), max_size=12), st.sampled_from(GOLDS))
def test_any_text_gets_a_verdict(pieces, gold):
    """Never an exception, never an ERROR: those would be bugs of the grader."""
    assert grade("\\boxed{" + "".join(pieces) + "}", gold).kind is not Kind.ERROR


FILES = ["math500", "math_train", "math_test_rest", "minerva", "olympiadbench", "gsm8k_train"]
FILES += ["dapo_math_17k", "aime24", "aime25", "amc23", "asdiv_train", "geometry3k/train"]


def typeset_otherwise(gold: str) -> list[str]:
    """The same answer as others would type it."""
    texts = [f"${gold}$", f" {gold} .", gold.replace(r"\frac", r"\dfrac"), r"\displaystyle " + gold]
    if re.fullmatch(r"-?[\d.]+", gold):
        texts += [f"x = {gold}", gold + r"\text{ units}", f"\\text{{{gold}}}"]
    return texts


@pytest.mark.parametrize("name", FILES)
def test_every_kind_of_gold_is_itself_and_no_other(shared_data, name):
    source = JsonlSource(shared_data / f"{name}.jsonl")
    problems = [source[i] for i in range(0, len(source), max(1, len(source) // 150))]
    for problem, other in zip(problems, problems[1:] + problems[:1], strict=True):
        for text in typeset_otherwise(problem.answer):
            assert math_reward(f"\\boxed{{{text}}}", problem).correct, (problem.id, text)
        if not boxed(problem.answer, other.answer, tolerance=Tolerance(0.01)).correct:
            assert not math_reward(f"\\boxed{{{other.answer}}}", problem).correct, problem.id


def test_math500_solutions(shared_data):
    source = JsonlSource(shared_data / "math500.jsonl")
    for problem in (source[i] for i in range(0, len(source), 5)):
        outcome = math_reward(problem.metadata["solution"], problem)
        assert outcome.correct, problem.id
        assert outcome.answer == normalise(problem.answer), problem.id
