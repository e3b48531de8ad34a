"""The value of an expression at a point, with nothing evaluated that would be too large to matter.

sympy's own evaluation has no such bound: 10000000! takes it seconds, 9^{9^{9^9}} for ever.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping

import mpmath
import sympy

from riskpo_jax.rewards.math_read import TooLarge, Unreadable

DIGITS = 50
_MAX_LOG10 = 10_000  # of the magnitude of any intermediate number
_MAX_NODES = 400
_LOG10_OF_2 = 0.30103


def generic(name: str) -> mpmath.mpf:
    """A number between 1/2 and 3/2 that belongs to the name."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    with mpmath.workdps(DIGITS):
        return mpmath.mpf(int.from_bytes(digest[:20], "big")) / 2**160 + mpmath.mpf(1) / 2


_FUNCTIONS: Mapping[str, Callable] = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec,
    "csc": mpmath.csc, "asin": mpmath.asin, "acos": mpmath.acos, "atan": mpmath.atan,
    "acot": mpmath.acot, "asec": mpmath.asec, "acsc": mpmath.acsc, "sinh": mpmath.sinh,
    "cosh": mpmath.cosh, "tanh": mpmath.tanh, "asinh": mpmath.asinh, "acosh": mpmath.acosh,
    "atanh": mpmath.atanh, "Abs": abs, "re": mpmath.re, "im": mpmath.im,
    "conjugate": mpmath.conj, "arg": mpmath.arg, "sign": mpmath.sign,
}  # fmt: skip


class Evaluator:
    """The value of a sympy expression where its variables have given values.

    magnitude: the decimal exponent, without its sign, of the largest or smallest number on the way.
    """

    def __init__(self, point: Mapping[str, mpmath.mpf]):
        self._point = point
        self._nodes = 0
        self.magnitude = 0

    def value(self, node: sympy.Basic):
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise TooLarge("too long")
        try:
            number = self._value(node)
        except (ZeroDivisionError, ValueError, OverflowError):
            return mpmath.nan
        if mpmath.isfinite(number) and number:
            self.magnitude = max(self.magnitude, int(abs(mpmath.mag(number)) * _LOG10_OF_2))
            if self.magnitude > _MAX_LOG10:
                raise TooLarge("too large a number")
        return number

    def _value(self, node: sympy.Basic):
        name = type(node).__name__
        if isinstance(node, sympy.Symbol):
            return mpmath.mpc(0, 1) if node.name == "i" else self._point[node.name]
        if isinstance(node, sympy.Float):
            return mpmath.mpf(str(node))
        if isinstance(node, sympy.Rational):
            if max(node.p.bit_length(), node.q.bit_length()) > 4 * _MAX_LOG10:
                raise TooLarge("too long a number")
            return mpmath.mpf(node.p) / node.q
        if name in _CONSTANTS:
            return _CONSTANTS[name]()
        if isinstance(node, sympy.Pow) and isinstance(node.exp, sympy.Rational) and node.exp.q % 2:
            return _odd_root_power(self.value(node.base), node.exp)
        if name in _OPERATIONS:
            return _OPERATIONS[name](*[self.value(argument) for argument in node.args])
        if name in _FUNCTIONS and len(node.args) == 1:
            argument = self.value(node.args[0])
            if abs(argument) > 1e9 and name not in ("Abs", "re", "im", "conjugate", "arg", "sign"):
                raise TooLarge(f"{name} of a large number")
            return _FUNCTIONS[name](argument)
        if isinstance(node, sympy.core.function.AppliedUndef):
            return self._opaque(name, [self.value(argument) for argument in node.args])
        if isinstance(node, sympy.Derivative):
            return self._opaque("derivative " + str(node), [])
        raise Unreadable(name)

    @staticmethod
    def _opaque(name: str, arguments: list) -> mpmath.mpf:
        """Something unknown, the same wherever the same is written: f(4 - x) is f(-x + 4)."""
        written = [mpmath.nstr(argument, mpmath.mp.dps // 2) for argument in arguments]
        return generic(f"{name}({', '.join(written)})")


def _power(base, exponent):
    if not (mpmath.isfinite(base) and mpmath.isfinite(exponent)):
        if mpmath.isinf(base) and exponent == 1:
            return base
        return mpmath.nan
    if base == 0:
        if exponent == 0 or mpmath.re(exponent) < 0:
            return mpmath.nan
        return mpmath.mpf(0)
    with mpmath.workdps(15):  # a logarithm of thousands of digits takes seconds
        magnitude = abs(exponent) * abs(mpmath.log10(abs(base)))
    if magnitude > _MAX_LOG10 or abs(exponent) > 10**9:
        raise TooLarge("a power")
    return mpmath.power(base, exponent)


def _odd_root_power(base, exponent: sympy.Rational):
    r"""The real one of a negative number: \sqrt[3]{-8} is -2."""
    if exponent.q == 1 or mpmath.im(base) or not mpmath.re(base) < 0:
        return _power(base, mpmath.mpf(exponent.p) / exponent.q)
    root = _power(-base, mpmath.mpf(exponent.p) / exponent.q)
    return -root if exponent.p % 2 else root


def _exponential(exponent):
    if abs(exponent) > 2 * _MAX_LOG10:
        raise TooLarge("an exponential")
    return mpmath.exp(exponent)


def _factorial(number):
    if not mpmath.isfinite(number) or abs(number) > 3000:
        raise TooLarge("a factorial")
    return mpmath.factorial(number)


def _binomial(n, k):
    if abs(n) > 10**6 or abs(k) > 3000:
        raise TooLarge("a binomial")
    return mpmath.binomial(n, k)


def _logarithm(number, base=None):
    if number == 0:
        return mpmath.nan
    return mpmath.log(number) if base is None else mpmath.log(number) / mpmath.log(base)


def _product(*factors):
    result = mpmath.mpf(1)
    for factor in factors:
        result = result * factor
    return result


def _floor_of(function: Callable) -> Callable:
    def rounded(number):
        if mpmath.im(number):
            raise Unreadable("floor of a complex number")
        return function(mpmath.re(number))

    return rounded


def _modulus(a, b):
    if b == 0:
        return mpmath.nan
    return a - b * mpmath.floor(a / b)


_OPERATIONS: Mapping[str, Callable] = {
    "Add": lambda *terms: mpmath.fsum(terms),
    "Mul": _product,
    "Pow": _power,
    "exp": _exponential,
    "log": _logarithm,
    "factorial": _factorial,
    "binomial": _binomial,
    "floor": _floor_of(mpmath.floor),
    "ceiling": _floor_of(mpmath.ceil),
    "UnevaluatedExpr": lambda inner: inner,
    "Mod": _modulus,
}
_CONSTANTS: Mapping[str, Callable] = {
    "Pi": lambda: +mpmath.pi,
    "Exp1": lambda: +mpmath.e,
    "ImaginaryUnit": lambda: mpmath.mpc(0, 1),
    "Infinity": lambda: mpmath.inf,
    "NegativeInfinity": lambda: -mpmath.inf,
    "NaN": lambda: mpmath.nan,
    "ComplexInfinity": lambda: mpmath.nan,
}
