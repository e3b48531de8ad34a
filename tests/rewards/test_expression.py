"""The parser against Python's own, and against hostile text."""

import re
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.rewards.expression import (
    MAX_DEPTH,
    MAX_DIGITS,
    MAX_LENGTH,
    ParseError,
    UndefinedError,
    parse,
)

integers = st.integers(0, 200).map(str)
spaces = st.sampled_from(["", "", " "])
expressions = st.recursive(
    integers,
    lambda inner: st.one_of(
        st.tuples(inner, spaces, st.sampled_from("+-*/"), spaces, inner).map("".join),
        inner.map("({})".format),
        inner.map("(-{})".format),
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=500)
@given(expressions)
def test_same_value_as_python(text):
    exact = re.sub(r"\d+", r"Fraction(\g<0>)", text)
    try:
        value = eval(exact, {"Fraction": Fraction})
    except ZeroDivisionError:
        with pytest.raises(UndefinedError):
            parse(text)
        return
    parsed = parse(text)
    assert parsed.value == value
    assert list(parsed.integers) == [int(word) for word in re.findall(r"\d+", text)]
    assert parsed.text == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("(25-7)*3", 54),
        (" 1 / 3 * 3 ", 1),
        ("8-4-2", 2),
        ("16/4/2", 2),
        ("-3+7", 4),
        ("(-3)*(-2)", 6),
        ("3×4÷2−1", 5),
        ("((((7))))", 7),
    ],
)
def test_by_hand(text, value):
    assert parse(text).value == value


@pytest.mark.parametrize(
    "text",
    ["", " ", "()", "(", ")", "(1", "1)", "1+", "*3", "+", "2**3", "7//2", "3 7", "3--7", "3+-7"]
    + ["2(3)", "(2)(3)", "1.5", "1e3", "0x10", "007", "1_000", "1,000", "abs(3)", "x", "3=3"]
    + ["１２", "٣+1", "2²", "½", "3%2", "1\n+2", "__import__('os')", "9" * (MAX_DIGITS + 1), "\0"],
)
def test_not_an_expression(text):
    with pytest.raises(ParseError):
        parse(text)


def test_limits():
    def nested(depth):
        return "(" * depth + "1" + ")" * depth

    assert parse(nested(MAX_DEPTH)).value == 1
    with pytest.raises(ParseError, match="inside each other"):
        parse(nested(MAX_DEPTH + 1))
    assert parse("9" * MAX_DIGITS).value == 10**MAX_DIGITS - 1
    sums = "1" + "+1" * (MAX_LENGTH // 2)
    with pytest.raises(ParseError, match="longer"):
        parse(sums)
    assert parse(sums[: MAX_LENGTH - 1]).value == MAX_LENGTH // 2
    for bomb in ("(" * 100_000, "1+" * 100_000, "9" * 100_000):
        with pytest.raises(ParseError):
            parse(bomb)


def test_undefined_is_told_apart_from_unparsable():
    for text in ("1/0", "3/(2-2)", "0*(1/0)", "1/(1/0)"):
        with pytest.raises(UndefinedError):
            parse(text)
    with pytest.raises(ParseError) as caught:
        parse("1/0)")
    assert not isinstance(caught.value, UndefinedError)
