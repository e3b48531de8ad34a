r"""Whether two quantities are equal: expressions with units, percent signs and tolerances."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from riskpo_jax.rewards import math_numeric, math_units
from riskpo_jax.rewards.math_answer import Quantity
from riskpo_jax.rewards.math_read import Unreadable, as_fraction
from riskpo_jax.rewards.math_text import normalise


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be from the reference; the larger of both counts. Zero: not at all."""

    relative: float = 0.0
    absolute: float = 0.0


EXACT = Tolerance()


def same_quantity(answer: Quantity, gold: Quantity, tolerance: Tolerance) -> bool:
    if answer.written and not gold.unit and _equal(answer.written, gold.text, Fraction(1), EXACT):
        return True
    if answer.written and has_variables(gold.text):
        return False
    ratio = math_units.ratio(answer.unit, gold.unit)
    if ratio is None:
        return _same_angle(answer, gold, tolerance)
    if answer.percent and gold.unit:
        return False
    factor = ratio * answer.factor / gold.factor
    if not answer.percent or gold.percent:
        return _equal(answer.text, gold.text, factor, tolerance) or _same_angle(
            answer, gold, tolerance
        )
    value = real_value(gold.text)
    if value is None or abs(value) > 1:
        return _equal(answer.text, gold.text, factor, tolerance)
    # A proportion: 50% is one half, and one half of a percent is not.
    return _equal(answer.text, gold.text, factor / 100, tolerance) or (
        abs(value) == 1 and _equal(answer.text, gold.text, factor, tolerance)
    )


def _same_angle(answer: Quantity, gold: Quantity, tolerance: Tolerance) -> bool:
    r"""90^\circ is \frac{\pi}{2}, where one has a degree sign and the other is in radians."""
    degree, radian = math_units.parse_unit("deg"), math_units.parse_unit("rad")
    scale = r"*\frac{\pi}{180}"
    if answer.unit == degree and (gold.unit == radian or _is_radians(gold)):
        return _equal(f"({answer.text}){scale}", gold.text, Fraction(1), tolerance)
    if gold.unit == degree and (answer.unit == radian or _is_radians(answer)):
        return _equal(answer.text, f"({gold.text}){scale}", Fraction(1), tolerance)
    return False


def _is_radians(quantity: Quantity) -> bool:
    return quantity.unit is None and r"\pi" in quantity.text


def _equal(answer: str, gold: str, factor: Fraction, tolerance: Tolerance) -> bool:
    """answer * factor == gold, or near enough."""
    exact = as_fraction(answer), as_fraction(gold)
    if None not in exact:
        return _near(exact[0] * factor, exact[1], tolerance)
    if factor != 1:
        answer = f"({answer})*\\frac{{{factor.numerator}}}{{{factor.denominator}}}"
    try:
        if math_numeric.equal(answer, gold):
            return True
    except Unreadable:
        return factor == 1 and normalise(answer) == normalise(gold)
    if tolerance == EXACT:
        return False
    values = real_value(answer), real_value(gold)
    return None not in values and _near(*values, tolerance)


def _near(answer, gold, tolerance: Tolerance) -> bool:
    if answer == gold:
        return True
    allowed = max(Fraction(tolerance.relative) * abs(Fraction(gold)), Fraction(tolerance.absolute))
    return bool(allowed) and abs(Fraction(answer) - Fraction(gold)) <= allowed


def real_value(text: str) -> Fraction | None:
    """The real value of an expression without variables, see `math_numeric.value`; None for others."""
    exact = as_fraction(text)
    if exact is not None:
        return exact
    try:
        return math_numeric.value(text)
    except Unreadable:
        return None


def has_variables(text: str) -> bool:
    try:
        return bool(math_numeric.symbols(text))
    except Unreadable:
        return True
