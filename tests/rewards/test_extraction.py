"""Where answers are found."""

import time

import pytest

from riskpo_jax.rewards.extraction import last_boxed, last_hashes, last_line, last_tagged


@pytest.mark.parametrize(
    ("response", "content"),
    [
        (r"so \boxed{5}", "5"),
        (r"\boxed{1} and \boxed{ 2 }.", "2"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\fbox{7}", "7"),
        (r"\boxed {8}", "8"),
        (r"\boxed{1} then \boxed{2", "1"),
        (r"{ \boxed{3} ", "3"),
        (r"} \boxed{3}", "3"),
        (r"\boxed{\boxed{4}}", "4"),
        (r"\boxed{}", ""),
        (r"\boxed 5", None),
        ("boxed{5}", None),
        ("", None),
    ],
)
def test_last_boxed(response, content):
    assert last_boxed(response) == content


def test_last_boxed_is_linear_in_the_length():
    started = time.perf_counter()
    assert last_boxed(r"\boxed{" * 50_000) is None
    assert time.perf_counter() - started < 2.0  # quadratic: minutes


def test_last_tagged():
    assert last_tagged("<answer>1</answer> no, <answer> 2\n3 </answer> end") == "2\n3"
    assert last_tagged("<answer>1") is None


def test_last_line():
    assert last_line("a\n b \n\n  ") == "b"
    assert last_line(" \n") is None


@pytest.mark.parametrize(
    ("response", "content"),
    [
        ("a\n#### 18 \nb", "18"),
        ("#### 1\n#### 2", "2"),
        ("####3", "3"),
        ("### 3", None),
        ("####\n3", None),
        ("", None),
    ],
)
def test_last_hashes(response, content):
    assert last_hashes(response) == content
