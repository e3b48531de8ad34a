"""Values of expressions: against exact fractions and sympy, and what is refused."""

from fractions import Fraction

import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.rewards.math_numeric import equal, proportional
from riskpo_jax.rewards.math_read import TooLarge, Unreadable, as_fraction, read


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("-.5", Fraction(-1, 2)),
        ("5.", 5),
        ("11/2", Fraction(11, 2)),
        ("1 1/2", Fraction(3, 2)),
        (r"1\frac{1}{2}", Fraction(3, 2)),
        (r"-\frac{-1}{2}", Fraction(1, 2)),
        ("4.5e33", Fraction(45) * 10**32),
        (r"3 \times 10^{-8}", Fraction(3, 10**8)),
        (r"0.1\overline{6}", Fraction(1, 6)),
        ("2^3", None),
        ("1/0", None),
        ("x", None),
        ("1,2", None),
        ("٥", None),
    ],
)
def test_as_fraction(text, value):
    assert as_fraction(text) == value


@given(st.fractions(max_denominator=10**6))
def test_as_fraction_reads_what_is_printed(fraction):
    top, bottom = abs(fraction.numerator), fraction.denominator
    sign = "-" if fraction < 0 else ""
    assert as_fraction(f"{sign}\\frac{{{top}}}{{{bottom}}}") == fraction
    assert as_fraction(f"{sign}{top}/{bottom}") == fraction


X, Y = sympy.symbols("x y")
LEAVES = st.sampled_from([X, Y, sympy.pi, *map(sympy.Integer, range(1, 6))])
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda t: t[0] + t[1]),
        st.tuples(inner, inner).map(lambda t: t[0] * t[1]),
        st.tuples(inner, st.integers(1, 3)).map(lambda t: t[0] ** t[1]),
        inner.map(sympy.sqrt),
        inner.map(sympy.sin),
        st.tuples(inner, LEAVES).map(lambda t: t[0] / t[1]),
    ),
    max_leaves=6,
)


@settings(max_examples=80, deadline=None)
@given(TREES)
def test_an_expression_equals_its_expansion_and_nothing_near(tree):
    """sympy prints it, the parser reads it back; adding a little is noticed."""
    text = sympy.latex(tree)
    assert equal(sympy.latex(sympy.expand(tree)), text)
    assert not equal(text + r"+\frac{1}{10^{15}}", text)


@pytest.mark.parametrize(
    "text", ["9^{9^{9^9}}", "10000000!", r"\binom{10^9}{10^8}", "{" * 30 + "x" + "}" * 30]
)
def test_too_large(text):
    with pytest.raises(TooLarge):
        equal(text, "x")


@pytest.mark.parametrize(
    "text",
    ["5 6", "5'", "5_y", "5[6]", "5{6}", "3.4.5", "5:6", "5%6", r"\foo", "", "x+", r"\sum x"],
)
def test_unreadable(text):
    with pytest.raises(Unreadable):
        read(text)


def test_branches():
    assert not equal(r"\sqrt{x^2}", "x") and not equal("|x|", "x")
    assert equal(r"\sqrt[3]{-8}", "-2")
    assert equal(r"10x\sqrt{21x}", r"\sqrt{2100x^3}")  # where both are real
    assert equal("f(4-x)", "f(-x+4)") and not equal("f(4-x)", "f(x)")


def test_proportional():
    line = ("2x-y", "-3")
    assert proportional(line, ("y", "2x+3"), positive=False)
    assert not proportional(line, ("y", "2x+3"), positive=True)
    assert proportional(("4x-2y", "-6"), line, positive=True)
    assert not proportional(line, ("y", "2x+4"), positive=False)
