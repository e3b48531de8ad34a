r"""Whether two expressions are equal: by their values, at fixed points, with 50 digits.

By the identity theorem two elementary expressions that agree at several generic points are equal; left of
zero, where roots and logarithms have branches, only real values are compared.
"""

from __future__ import annotations

import mpmath
import sympy

from riskpo_jax.rewards.math_evaluate import DIGITS, Evaluator, generic
from riskpo_jax.rewards.math_read import as_fraction, read

_SEEDS = ("a", "b", "c", "d")


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
    return same_values([read(answer)], [read(gold)])


def proportional(answer: tuple[str, str], gold: tuple[str, str], *, positive: bool) -> bool:
    """Whether left - right of two relations differ by a constant factor only, a positive one if asked.

    Raises: see `read`.
    """
    sides = [read(text) for text in (*answer, *gold)]
    factor = None
    for point in _points(sides):
        with mpmath.workdps(DIGITS):
            a, b, c, d = (Evaluator(point).value(side) for side in sides)
            first, second = a - b, c - d
            if not (_is_finite(first) and _is_finite(second)):
                continue
            tolerance = _tolerance(*sides)
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


def value(text: str) -> mpmath.mpf | None:
    """The real value of an expression without variables; None where it has some. Raises as `read`."""
    expression = read(text)
    if expression.free_symbols or expression.atoms(sympy.core.function.AppliedUndef):
        return None
    with mpmath.workdps(DIGITS):
        number = Evaluator({}).value(expression)
        return mpmath.re(number) if mpmath.im(number) == 0 else None


def same_values(answers: list[sympy.Expr], golds: list[sympy.Expr]) -> bool:
    """Whether expressions agree pairwise at every point where both are defined, and at one at least."""
    expressions = [*answers, *golds]
    agreed = False
    for point in _points(expressions):
        with mpmath.workdps(DIGITS):
            for answer, gold in zip(answers, golds, strict=True):
                a, b = Evaluator(point).value(answer), Evaluator(point).value(gold)
                if not (_is_finite(a) and _is_finite(b)):
                    if _same_infinity(a, b):
                        agreed = True
                        continue
                    if not point:
                        return False
                    continue
                if not _close(a, b, _tolerance(answer, gold)):
                    # Left of zero, roots and logarithms have branches; real values have not.
                    if point and min(point.values()) < 0 and (mpmath.im(a) or mpmath.im(b)):
                        continue
                    return False
                agreed = True
    return agreed


def _points(expressions: list[sympy.Expr]) -> list[dict[str, mpmath.mpf]]:
    """Points (name -> number) for all variables: none, or positive and negative generic ones."""
    names = sorted({s.name for e in expressions for s in e.free_symbols} - {"i"})
    if not names:
        return [{}]
    points = []
    for seed in _SEEDS:
        for scale in (1, -1, 7):
            points.append({name: scale * generic(seed + name) for name in names})
    mixed = {name: (-1) ** k * 3 * generic("mixed" + name) for k, name in enumerate(names)}
    return [*points, mixed]


def _tolerance(*expressions: sympy.Expr) -> mpmath.mpf:
    """The parser keeps 15 digits of a decimal; all else is exact."""
    inexact = any(e.atoms(sympy.Float) for e in expressions)
    return mpmath.mpf(10) ** (-12 if inexact else -(DIGITS - 12))


def _close(a, b, tolerance) -> bool:
    return abs(a - b) <= tolerance * max(1 if not b else 0, abs(a), abs(b))


def _is_finite(number) -> bool:
    return bool(mpmath.isfinite(number))


def _same_infinity(a, b) -> bool:
    return bool(mpmath.isinf(a) and mpmath.isinf(b) and mpmath.re(a) == mpmath.re(b))
