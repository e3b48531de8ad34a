"""Units: what they measure and in what size."""

from fractions import Fraction

import pytest

from riskpo_jax.rewards.math_units import may_be_unit, parse_unit, ratio


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("m", "cm", 100),
        ("square inches", "in^2", 1),
        ("sq. ft", "square inches", 144),
        ("cubic centimeters", "ml", 1),
        ("miles per hour", "mph", 1),
        ("km/h", "m/s", Fraction(10, 36)),
        ("hours", "min", 60),
        ("dollars", "cents", 100),
        ("m s^{-1}", "m/s", 1),
        ("m", "kg", None),
        ("cm^2", "cm^3", None),
        ("radians", "degrees", None),
        ("apples", "kg", 1),
        ("", "kg", 1),
        ("deg", "degC", 1),
        ("degF", "degC", None),
    ],
)
def test_ratio(first, second, expected):
    assert ratio(parse_unit(first), parse_unit(second)) == expected


@pytest.mark.parametrize("words", ["apples", "ways", "children tickets", "m per", "units"])
def test_words_that_are_no_known_unit(words):
    assert parse_unit(words) is None


def test_what_reasons_is_no_unit():
    assert may_be_unit("square units") and may_be_unit("children tickets")
    for words in ("or 6", "if x", "where x = 5", "and so on", "a b c d e f", "x = 5"):
        assert not may_be_unit(words)
