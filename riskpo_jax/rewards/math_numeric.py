r"""Whether two expressions are equal: by their values, at fixed points.

By the identity theorem two elementary expressions that agree at several generic points are equal; left of
zero, where roots and logarithms have branches, only real values are compared. What has steps or corners
(floors, absolute values) is compared at integers and far away, too. 38 digits count, and more where there
are large or small numbers on the way: 2^{2019} is not 2^{2019}-1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction

import mpmath
import sympy

from riskpo_jax.rewards.math_evaluate import DIGITS, Evaluator, generic
from riskpo_jax.rewards.math_read import TooLarge, as_fraction, read

_SEEDS = ("a", "b", "c", "d")
_GUARD_DIGITS = 12  # lost to rounding
_COMMON_MAGNITUDE = 10  # for which DIGITS are enough
_STEPS = (sympy.floor, sympy.ceiling, sympy.Abs, sympy.sign, sympy.Mod)

Point = Mapping[str, mpmath.mpf]
"""variable -> value"""


def symbols(text: str) -> set[str]:
    """The names of the variables of an expression; the imaginary unit is none. Raises as `read`."""
    return {s.name for s in read(text).free_symbols} - {"i"}


def equal(answer: str, gold: str) -> bool:
    """Whether two expressions have the same value for all values of their variables.

    Raises:
      Unreadable, TooLarge: see `read`; also an operation that cannot be evaluated.
    """
    exact = [as_fraction(answer), as_fraction(gold)]
    if None not in exact:
        return exact[0] == exact[1]
    return _same_value(read(answer), read(gold))


def proportional(answer: tuple[str, str], gold: tuple[str, str], *, positive: bool) -> bool:
    """Whether left - right of two relations differ by a constant factor only, a positive one if asked.

    Raises: see `read`.
    """
    sides = [read(text) for text in (*answer, *gold)]
    factor = None
    for _, (a, b, c, d), digits in _values(sides):
        with mpmath.workdps(2 * digits):
            first, second, tolerance = a - b, c - d, mpmath.mpf(10) ** -digits
            if not (_is_finite(first) and _is_finite(second)):
                continue
            if _close(first, 0, tolerance) or _close(second, 0, tolerance):
                if not (_close(first, 0, tolerance) and _close(second, 0, tolerance)):
                    return False
                continue
            here = first / second
            if factor is not None and not _close(here, factor, tolerance):
                return False
            factor = here
    if factor is None or (positive and not mpmath.re(factor) > 0):
        return False
    return mpmath.im(factor) == 0


def value(text: str) -> Fraction | None:
    """The real value of an expression without variables, to 30 digits, or more where large numbers are on
    the way; None where it has variables or no finite real value. Raises as `read`."""
    expression = read(text)
    if expression.free_symbols or expression.atoms(sympy.core.function.AppliedUndef):
        return None
    [number], digits = _at({}, [expression])
    if not _is_finite(number) or mpmath.im(number) != 0:
        return None
    with mpmath.workdps(2 * digits):
        return Fraction(mpmath.nstr(mpmath.re(number), digits - 8, strip_zeros=False))


def _same_value(answer: sympy.Expr, gold: sympy.Expr) -> bool:
    """Whether two expressions agree at every point where both are defined, and at one at least."""
    agreed = False
    for point, (a, b), digits in _values([answer, gold]):
        if not (_is_finite(a) and _is_finite(b)):
            if _same_infinity(a, b):
                agreed = True
            elif not point:
                return False
            continue
        with mpmath.workdps(2 * digits):
            if _close(a, b, mpmath.mpf(10) ** -digits):
                agreed = True
            # Left of zero, roots and logarithms have branches; real values have not.
            elif not (point and min(point.values()) < 0 and (mpmath.im(a) or mpmath.im(b))):
                return False
    return agreed


def _values(expressions: Sequence[sympy.Expr]) -> Iterator[tuple[Point, list, int]]:
    """Points, and `_at` there."""
    names = sorted({s.name for e in expressions for s in e.free_symbols} - {"i"})
    for point in _points(names):
        yield point, *_at(point, expressions)
    if names and any(e.has(*_STEPS) for e in expressions):
        for point in _far_points(names):
            try:
                yield point, *_at(point, expressions)
            except TooLarge:  # so far away only
                continue


def _at(point: Point, expressions: Sequence[sympy.Expr]) -> tuple[list, int]:
    """The values of expressions at a point, and how many digits of them count."""
    numbers, magnitude = _evaluated(point, expressions, DIGITS)
    if magnitude <= _COMMON_MAGNITUDE:
        return numbers, DIGITS - _GUARD_DIGITS
    # x - A and x - A + 1 are proportional but for 1 / A^2; one magnitude more is for a difference's digits.
    numbers, _ = _evaluated(point, expressions, DIGITS + 3 * magnitude)
    return numbers, DIGITS + 2 * magnitude - _GUARD_DIGITS


def _evaluated(point: Point, expressions: Sequence[sympy.Expr], digits: int) -> tuple[list, int]:
    """The values, and the largest magnitude on the way."""
    evaluators = [Evaluator(point) for _ in expressions]
    with mpmath.workdps(digits):
        numbers = [e.value(x) for e, x in zip(evaluators, expressions, strict=True)]
    return numbers, max(e.magnitude for e in evaluators)


def _points(names: Sequence[str]) -> list[Point]:
    """One point without variables; else positive and negative generic ones."""
    if not names:
        return [{}]
    points = []
    for seed in _SEEDS:
        for scale in (1, -1, 7):
            points.append({name: scale * generic(seed + name) for name in names})
    mixed = {name: (-1) ** k * 3 * generic("mixed" + name) for k, name in enumerate(names)}
    return [*points, mixed]


def _far_points(names: Sequence[str]) -> list[Point]:
    far = [{name: scale * generic("far" + name) for name in names} for scale in (1000, -1000)]
    whole = [{name: mpmath.mpf(k + first) for k, name in enumerate(names)} for first in (2, 5)]
    return far + whole


def _close(a, b, tolerance) -> bool:
    return abs(a - b) <= tolerance * max(1 if not b else 0, abs(a), abs(b))


def _is_finite(number) -> bool:
    return bool(mpmath.isfinite(number))


def _same_infinity(a, b) -> bool:
    return bool(mpmath.isinf(a) and mpmath.isinf(b) and mpmath.re(a) == mpmath.re(b))
