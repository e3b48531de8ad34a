"""Shared runs of words, against a slow search, and what is no leak."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.config import from_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.data.contamination import COMMON, find_overlaps, without_overlaps, words
from riskpo_jax.data.mixture import Mixture
from riskpo_jax.data.problem import Problem
from riskpo_jax.data.sources import contamination, make_train_source
from riskpo_jax.errors import UserError

LONG = "On Monday seven red foxes bought nine green umbrellas from an old sailor in Porto"


def source(name, *texts, reward="math"):
    return [Problem(f"{name}-{i}", text, "", name, reward=reward) for i, text in enumerate(texts)]


def flagged(train, evaluation, n):
    overlaps = find_overlaps(train, {"e": evaluation}, n)
    return overlaps[0].indices if overlaps else ()


few_words = st.lists(st.sampled_from("abc"), max_size=7).map(" ".join)


@settings(deadline=None, max_examples=200)
@given(
    train=st.lists(few_words, max_size=6), held=st.lists(few_words, max_size=4), n=st.integers(1, 6)
)
def test_the_problems_are_those_that_a_slow_search_finds(train, held, n):
    def overlap(ours, theirs):
        ours, theirs = ours.split(), theirs.split()
        if min(len(ours), len(theirs)) < n:
            return ours == theirs != []
        ends = range(len(theirs) - n + 1)
        return any(ours[i : i + n] == theirs[j : j + n] for i in range(len(ours)) for j in ends)

    expected = [i for i, ours in enumerate(train) if any(overlap(ours, t) for t in held)]
    assert list(flagged(source("t", *train), source("e", *held), n)) == expected


@settings(deadline=None, max_examples=30)
@given(st.permutations(range(5)))
def test_neither_the_order_of_problems_nor_of_sets_matters(order):
    train = source("t", LONG, "Nothing of the kind", LONG + " yesterday", "Else", "More")
    held = {"a": source("a", "Then " + LONG), "b": source("b", "Else")}
    backwards = dict(reversed(held.items()))
    found = {o.evaluation: set(o.indices) for o in find_overlaps(train, held, 13)}
    moved = find_overlaps([train[i] for i in order], backwards, 13)
    assert found == {"a": {0, 2}, "b": {3}}
    assert {o.evaluation: {order[i] for i in o.indices} for o in moved} == found


def test_case_punctuation_latex_and_drawings_do_not_hide_a_copy():
    copy = LONG.upper().replace(" ", ",  ") + "!"
    assert flagged(source("t", copy), source("e", LONG), 13) == (0,)
    assert words(r"Let $\frac{1}{2}+x_1$ [asy]draw(A--B);[/asy] be") == words("let FRAC 1 2 x 1 be")
    assert words("求ｘ的值") == ["求", "x", "的", "值"]


def test_a_way_of_speaking_is_no_leak_but_a_copy_beside_it_is():
    phrase = "can be written as m over n where m and n are relatively prime find m plus n"
    subjects = ["cats", "dogs", "mice", "birds", "cows", "pigs", "bees", "ants", "rats", "hens"]
    asked = [f"The share of {a} among {b} {phrase}" for a in subjects for b in subjects]
    held = source("e", f"The area of a circle {phrase}", f"Why? {LONG}. It {phrase}")
    train = source("t", *asked, f"{LONG} which {phrase}")
    assert len(asked) > COMMON
    assert flagged(train, held, 13) == (len(asked),)
    # Where few problems speak so, nothing says that it is no copy.
    assert flagged(train[:COMMON], held, 13) == tuple(range(COMMON))


def test_an_equal_short_problem_is_a_copy_however_common_its_words():
    train = source(
        "t", "What is two plus two?", *(f"What is two plus two, {n}?" for n in range(20))
    )
    assert flagged(train, source("e", "What is two plus two"), 13) == (0,)


def test_the_signs_of_a_short_problem_count():
    train = source("t", "2 * 3 = ?", "2+3 =", "$2 + 3$ = ?")
    assert flagged(train, source("e", "2 + 3 = ?"), 13) == (1, 2)


def test_problems_that_are_drawn_are_not_compared():
    drawn = source("countdown", LONG, reward="countdown")
    assert find_overlaps(drawn, {"e": source("e", LONG)}, 13) == []
    assert find_overlaps(source("t", LONG), {"countdown": drawn}, 13) == []


def test_the_report_is_by_pairs_of_sets_with_the_closest_problems():
    train = Mixture((source("one", "x", LONG), source("two", f"So {LONG} twice", LONG[:60])))
    held = {"e": source("e", LONG, "y"), "f": source("f", "z")}
    one, two = find_overlaps(train, held, 10)
    assert (one.train, one.evaluation, one.indices, one.touched) == ("one", "e", (1,), {"e-0"})
    assert (two.train, two.indices, two.example[:2]) == ("two", (2, 3), ("two-0", "e-0"))
    assert str(two).startswith(
        "contamination: 2 training problems of two share a run of words with 1 problems of e, such as "
        "two-0 with e-0: 'on monday seven"
    )


def test_overlaps_are_left_out():
    train = source("t", "x", LONG, "y")
    overlaps = find_overlaps(train, {"e": source("e", LONG)}, 13)
    kept = without_overlaps(train, overlaps)
    assert [kept[i].id for i in range(len(kept))] == ["t-0", "t-2"]
    assert without_overlaps(train, []) is train
    with pytest.raises(UserError, match="--data.drop_contaminated leaves no training problem"):
        without_overlaps(train[1:2], find_overlaps(train[1:2], {"e": source("e", LONG)}, 13))


@pytest.mark.parametrize(
    "values",
    [
        {"eval.datasets": ("aime24",)},  # training is drawn
        {"data.source": "sets", "data.sets": ("amc23",)},  # nothing is evaluated
        {
            "data.source": "sets",
            "data.sets": ("amc23",),
            "eval.datasets": ("aime24",),
            "data.contamination_ngram": 0,
        },
    ],
    ids=["drawn", "no_evaluation", "off"],
)
def test_nothing_to_compare(values):
    assert contamination(resolve(from_flat(values)), source("t", LONG)) is None


def test_the_real_sets(shared_data):
    """DAPO-Math-17k has problems of AMC 2023; nothing of GSM8K is in the evaluation sets of mathematics."""
    names = ("aime24", "aime25", "amc23", "math500", "minerva", "olympiadbench")
    values = {"data.folder": str(shared_data), "data.source": "sets", "eval.datasets": names}
    config = resolve(from_flat(values | {"data.sets": ("gsm8k", "dapo_math_17k")}))
    train = make_train_source(config)
    overlaps = contamination(config, train)
    found = {(o.train, o.evaluation): o for o in overlaps}
    assert {ours for ours, _ in found} == {"dapo_math_17k"}
    amc = found["dapo_math_17k", "amc23"]
    copies = {train[i].text for i in amc.indices}
    assert 5 <= len(amc.touched) and any("won by left-handed players" in text for text in copies)
    assert (
        "dapo_math_17k",
        "aime24",
    ) not in found  # their phrases are common, their problems are not
    kept = without_overlaps(train, overlaps)
    assert contamination(config, kept) == []
