"""One spelling for what differs in typography only."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskpo_jax.rewards.math_text import braces_too_deep, clean, normalise, split_top


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        (r"$\dfrac12$.", r"\frac{1}{2}"),
        (r"\frac{29}4", r"\frac{29}{4}"),
        (r"\frac 59", r"\frac{5}{9}"),
        (r"\frac \pi4", r"\frac{\pi}{4}"),
        (r"\frac{\frac12}{3}", r"\frac{\frac{1}{2}}{3}"),
        (r"\sqrt2+\sqrt[3]5", r"\sqrt{2}+\sqrt[3]{5}"),
        ("2√13", r"2\sqrt{13}"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"( 3, \frac{\pi}{2} )"),
        (r"11,\! 111,\! 111,\! 100", "11111111100"),
        (r"10{,}000\,000", "10000000"),
        (r"90^{\circ}", r"90^\circ"),
        (r"{\bf 18}", "{ 18}"),
        (r"\mbox{ cm}", r"\text{ cm}"),
        (r"1 \\ 2", r"1 \\ 2"),
        ("１８", "18"),
        (r"\(x\)", "x"),
    ],
)
def test_clean(text, cleaned):
    assert clean(text) == cleaned


def test_normal_form():
    same = ["1,234", "1{,}234", r"1\,234", "$1234$", "1234.", r"\text{1234}", r" \left 1234"]
    assert {normalise(answer) for answer in same} == {"1234"}
    assert normalise("1 1/2") != normalise("11/2")
    assert normalise(r"18 \text{ dollars}") == "18 dollars"
    assert normalise("5\n6") != "56"


@given(st.text(alphabet=r"\frac12{}x ,.$^_()", max_size=40))
def test_the_normal_form_of_a_normal_form_is_itself(text):
    once = normalise(text)
    assert normalise(once) in (once, normalise(normalise(once)))


def test_splits_outside_brackets_only():
    assert split_top(r"(1,2), \{3,4\}, \frac{1,0}{2}", re.compile(","))[0] == [
        "(1,2)",
        r"\{3,4\}",
        r"\frac{1,0}{2}",
    ]


def test_depth():
    assert braces_too_deep("{" * 5, 4) and not braces_too_deep("{}" * 50, 4)
