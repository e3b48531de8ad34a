"""Countdown's reward by hand, and beside reasoning-gym's scorer."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskpo_jax.data.countdown import CountdownSource
from riskpo_jax.data.problem import Problem
from riskpo_jax.rewards import expression
from riskpo_jax.rewards.countdown import countdown_reward, distance_reward, nearness
from riskpo_jax.rewards.outcome import Kind

PROBLEM = Problem("p", "", "46", "countdown", metadata={"numbers": "25 7 3", "target": "46"})


@pytest.mark.parametrize(
    ("response", "kind"),
    [
        ("25+7*3", "correct"),
        ("7*3+25=46", "correct"),
        ("(25 + 3*7) = 46", "correct"),
        ("thinking: 25*7\n<answer>25+7*3</answer> bye", "correct"),
        (r"so \boxed{25 + 7 \times 3}", "correct"),
        (r"$\boxed{\left(7 \cdot 3\right) + 25 = 46}$", "correct"),
        ("first 1+1\n\n3*7 + 25\n", "correct"),
        (r"<answer>25+7*3</answer> \boxed{1+1}", "correct"),
        ("25+7*3=47", "wrong"),
        ("25+7+3", "wrong"),
        ("25+21", "wrong"),
        ("46", "wrong"),
        ("25+7*3+3-3", "wrong"),
        ("25+7*3*7/7", "wrong"),
        ("25/(7-7)*3", "wrong"),
        ("<answer>25+7</answer>\n25+7*3", "wrong"),
        ("", "no_answer"),
        ("I do not know", "no_answer"),
        ("46=25+7*3", "no_answer"),
        ("25+7*3=40=46", "no_answer"),
        ("25+7**3", "no_answer"),
        ("<answer></answer>", "no_answer"),
        ("25+7*3<eos>", "no_answer"),
        ("=46", "no_answer"),
    ],
)
def test_by_hand(response, kind):
    outcome = countdown_reward(response, PROBLEM)
    assert outcome.kind is Kind(kind)
    assert outcome.score == (kind == "correct") == outcome.correct


@pytest.mark.parametrize(
    ("response", "score"),
    [
        ("25+7*3", 1.0),
        ("25+7*3=46", 1.0),
        ("25*7/3", 0.5 / (1 + 37 / 3)),  # 58 1/3
        ("25+7+3", 0.5 / 12),
        ("25+7+3=46", 0.5 / 12),
        ("25+7+3=35", 0.0),  # not the target that was asked for
        ("25+21", 0.0),
        ("46", 0.0),
        ("25+7*3+1-1", 0.0),
        ("25/(7-7)*3", 0.0),
        ("25/(7-7)", 0.0),
        ("nothing", 0.0),
    ],
)
def test_distance_is_partial_credit_for_the_right_numbers(response, score):
    outcome = distance_reward(response, PROBLEM)
    assert outcome.score == pytest.approx(score, abs=1e-12)
    plain = countdown_reward(response, PROBLEM)
    assert (outcome.kind, outcome.answer) == (plain.kind, plain.answer)


@given(st.fractions(), st.fractions(), st.integers(1, 60))
def test_nearer_is_never_worse_and_stays_below_half(a, b, target):
    near, far = sorted((a, b), key=lambda value: abs(value - target))
    assert 0 <= nearness(far, target) <= nearness(near, target) <= 0.5
    assert nearness(2 * target - a, target) == nearness(a, target)


def test_a_value_beyond_floats_is_just_far():
    numbers = ["999999999999"] * 30
    problem = Problem("p", "?", "7", "countdown", metadata={"numbers": " ".join(numbers)})
    outcome = distance_reward("*".join(numbers), problem)
    assert outcome.kind is Kind.WRONG and outcome.score == 0.0


def test_the_answer_is_normalised_for_voting():
    answers = {
        countdown_reward(r, PROBLEM).answer for r in ("25+7*3", " 25 + 7 * 3 = 46", "25+7×3")
    }
    assert answers == {"25+7*3"}


def _attempts(problem, rng):
    """A right expression and variations of it, most of them wrong."""
    numbers, solution = problem.metadata["numbers"].split(), problem.metadata["solution"]
    yield solution
    yield solution.replace(rng.choice(numbers), str(rng.randint(1, 20)), 1)
    yield solution.translate(str.maketrans("+-*/", "".join(rng.sample("+-*/", 4))))
    yield solution.replace("(", "").replace(")", "")
    yield f"{solution}{rng.choice('+-*/')}{rng.randint(1, 3)}"
    rng.shuffle(numbers)
    text = numbers[0]
    for word in numbers[1:]:
        text = f"{text} {rng.choice('+-*/')} {word}"
        text = f"({text})" if rng.random() < 0.5 else text
    yield text


def test_same_verdict_as_reasoning_gym():
    library = pytest.importorskip(
        "reasoning_gym", reason="the reasoning-gym extra is not installed"
    )
    scorer = library.create_dataset("countdown", size=1, seed=0)
    rng = random.Random(0)
    source = CountdownSource(7, "train", 400)
    verdicts = Counter()
    for problem in (source[i] for i in range(len(source))):
        numbers = [int(word) for word in problem.metadata["numbers"].split()]
        target = int(problem.answer)
        entry = {"metadata": {"numbers": numbers, "target": target}}
        for attempt in _attempts(problem, rng):
            theirs = scorer.score_answer(attempt, entry) == 1.0
            ours = countdown_reward(attempt, problem).correct
            verdicts[ours] += 1
            if ours != theirs:  # only their tolerance may explain it
                value = float(expression.parse(attempt).value)
                assert theirs and value != target, (attempt, entry)
                assert math.isclose(value, target, rel_tol=2e-5), (attempt, entry)
    assert verdicts[True] > 400 and verdicts[False] > 400


def test_a_false_claim_does_not_vote_for_the_right_answer():
    problem = Problem("p", "?", "9", "countdown", metadata={"numbers": "1 2 3"})
    right, wrong = (countdown_reward(text, problem) for text in ("(1+2)*3", "(1+2)*3=8"))
    assert right.correct and not wrong.correct and right.answer != wrong.answer
