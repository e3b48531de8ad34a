"""Countdown problems: solvable, deterministic, disjoint, evenly spread over the levels."""

import random
from collections import Counter

import pytest

from riskpo_jax.data.countdown import (
    NUMBERS_PER_LEVEL,
    CountdownSource,
    combine,
    draw_steps,
    number,
    split_of,
    write,
)
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.countdown import countdown_reward


def problems(source):
    return [source[i] for i in range(len(source))]


def key(problem):
    return tuple(sorted(problem.metadata["numbers"].split())), problem.answer


@pytest.mark.parametrize("split", ["train", "eval"])
def test_every_solution_is_correct(split):
    for problem in problems(CountdownSource(3, split, 3000)):
        assert countdown_reward(problem.metadata["solution"], problem).correct, problem


def test_ranges_levels_and_split_hold():
    source = CountdownSource(
        0, "train", 900, min_number=2, max_number=9, min_target=10, max_target=30
    )
    for index, problem in enumerate(problems(source)):
        numbers = [int(word) for word in problem.metadata["numbers"].split()]
        assert problem.level == ("easy", "medium", "hard")[index % 3]
        assert len(numbers) == NUMBERS_PER_LEVEL[problem.level]
        assert all(2 <= value <= 9 for value in numbers) and 10 <= int(problem.answer) <= 30
        assert split_of(numbers, int(problem.answer)) == "train"


def test_levels_can_be_chosen():
    source = CountdownSource(0, "train", 40, levels=("hard", "easy"))
    assert Counter(p.level for p in problems(source)) == {"hard": 20, "easy": 20}


def test_a_problem_depends_on_seed_and_index_only():
    short, long = CountdownSource(5, "train", 50), CountdownSource(5, "train", 500)
    assert problems(short) == [long[i] for i in range(50)]
    assert [long[i] for i in (49, 3)] == [short[49], short[3]]  # in any order of access
    other = CountdownSource(6, "train", 50)
    assert sum(key(a) == key(b) for a, b in zip(problems(short), problems(other), strict=True)) < 5


def test_evaluation_problems_are_distinct_and_a_prefix_of_a_larger_set():
    evaluation = problems(CountdownSource(1, "eval", 600, max_number=10, max_target=50))
    assert len({key(p) for p in evaluation}) == 600
    assert evaluation[:90] == problems(CountdownSource(1, "eval", 90, max_number=10, max_target=50))


def test_train_and_eval_never_meet_whatever_the_seeds():
    train = {
        key(p)
        for seed in (0, 1)
        for p in problems(CountdownSource(seed, "train", 6000, max_number=8, max_target=30))
    }
    evaluation = {
        key(p) for p in problems(CountdownSource(0, "eval", 200, max_number=8, max_target=30))
    }
    assert train.isdisjoint(evaluation)


def test_split_ignores_the_order_and_takes_a_tenth():
    rng = random.Random(0)
    votes = []
    for _ in range(20_000):
        numbers, target = [rng.randint(1, 50) for _ in range(4)], rng.randint(1, 100)
        votes.append(split_of(numbers, target))
        assert votes[-1] == split_of(sorted(numbers, reverse=True), target)
    assert abs(votes.count("eval") / len(votes) - 0.1) < 0.01


def test_steps_stay_positive_integers_and_the_writing_is_faithful():
    """`eval` is the oracle here: the text must have the value that the steps reached."""
    rng = random.Random(1)
    for _ in range(3000):
        numbers = [rng.randint(1, 20) for _ in range(rng.randint(2, 6))]
        target, steps = draw_steps(numbers, rng)
        text = str(write(numbers, steps))
        assert target >= 1 and abs(eval(text) - target) < 1e-6 * target, (numbers, text)


def test_no_parenthesis_can_be_left_out():
    rng = random.Random(2)
    for _ in range(500):
        numbers = [rng.randint(1, 20) for _ in range(5)]
        _, steps = draw_steps(numbers, rng)
        text = str(write(numbers, steps))
        for opening in (i for i, c in enumerate(text) if c == "("):
            closing = _closing(text, opening)
            assert text[opening - 1] in "*/" or text[closing + 1 : closing + 2] in ("*", "/"), text
            assert any(c in "+-" for c in _top_level(text[opening + 1 : closing])), text


def _closing(text, opening):
    depth = 0
    for position in range(opening, len(text)):
        depth += (text[position] == "(") - (text[position] == ")")
        if depth == 0:
            return position
    raise AssertionError(text)


def _top_level(text):
    depth = 0
    for character in text:
        depth += (character == "(") - (character == ")")
        if depth == 0:
            yield character


def test_writing_by_hand():
    a, b, c, d = map(number, (30, 12, 4, 2))
    assert str(combine(a, "-", combine(b, "-", c))) == "30+4-12"
    assert str(combine(combine(a, "-", b), "*", combine(c, "+", d))) == "(30-12)*(4+2)"
    assert str(combine(b, "/", combine(c, "*", d))) == "12/4/2"
    assert str(combine(a, "-", combine(b, "*", c))) == "30-12*4"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"split": "test"}, "test"),
        ({"levels": ("easy", "brutal")}, "brutal"),
        ({"levels": ()}, "levels"),
        ({"size": 0}, "size"),
        ({"min_number": 9, "max_number": 3}, "min_number"),
        ({"min_target": 0}, "min_target"),
    ],
)
def test_bad_settings(settings, named):
    with pytest.raises(UserError, match=named):
        CountdownSource(**{"seed": 0, "split": "train", "size": 3, **settings})


def test_too_few_problems_is_an_error_not_a_loop():
    with pytest.raises(UserError, match="widen the ranges"):
        CountdownSource(0, "eval", 500, levels=("easy",), max_number=3, max_target=5)


def test_index_beyond_the_end():
    with pytest.raises(IndexError):
        CountdownSource(0, "train", 3)[3]
