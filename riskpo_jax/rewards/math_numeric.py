r"""Whether two expressions are equal: read by math-verify's parser, compared as numbers.

The parser evaluates nothing, and here nothing is evaluated symbolically, so that no bound is needed on what
sympy may do with a text that a model wrote. Every expression is evaluated at fixed points with 50 digits;
an operation whose result would be too large to matter is refused before it is done. By the identity
theorem two elementary expressions that agree at several generic points are equal; where they do so only
where both are real, real is what they are compared on.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from functools import lru_cache

import mpmath
import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

from riskpo_jax.rewards.math_text import braces_too_deep, tokens

MAX_DEPTH = 24  # of braces and brackets
_DIGITS = 50
_MAX_LOG10 = 10_000  # of the magnitude of any intermediate number
_MAX_NODES = 400
_SEEDS = ("a", "b", "c", "d")
_REFUSED = re.compile(
    r"\\(?:sum|prod|i*int|oint|lim|limsup|liminf|bigcup|bigcap|coprod|max|min|sup|inf|gcd|lcm|det)"
    r"(?![A-Za-z])|\\d?dots|\\ldots|\\cdots|\.\.\."
)
# What the parser takes for something else than it says: 5 6, 5_y, 5', 3.4.5, 5--6, 5[6], 5%6.
_MISREAD = re.compile(
    r"\d\s+\.?\d|(?<![\w}])\d+\s*_|\d\s*'|\d\.\d*\.|--|[\":]|\d\s*\[|\\\{|%\s*[\w\\(]"
)
_NUMBER = re.compile(
    r"(?P<sign>[+-]?)(?:"
    r"(?P<whole>\d{1,400})? ?\\frac\{(?P<top>-?\d{1,400})\}\{(?P<bottom>-?\d{1,400})\}"
    r"|(?:(?P<w>\d{1,400}) )?(?P<t>\d{1,400})/(?P<b>\d{1,400})"
    r"|(?P<decimal>\d{1,400}(?:\.\d{0,400})?|\.\d{1,400})"
    r"(?:(?:e|E|(?:\\times|\\cdot|\*)\s*10\s*\^)\{?\s*(?P<exponent>[+-]?\d{1,3})\s*\}?)?)",
    re.ASCII,
)
_REPEATING = re.compile(r"(-?)(\d{0,40})\.(\d{0,40})\\(?:overline|bar)\{(\d{1,40})\}", re.ASCII)
_POWER_OF_TEN = re.compile(r"(?P<sign>[+-]?)10\^\{?(?P<exponent>[+-]?\d{1,3})\}?", re.ASCII)


class TooLarge(Exception):
    """An intermediate number is beyond what any answer needs: a bomb."""


class Unreadable(Exception):
    """The text is no expression that can be evaluated."""


def as_fraction(text: str) -> Fraction | None:
    """The exact value of a plain number: 3, -.5, 1/2, \\frac{1}{2}, 1\\frac{1}{2}, 4.5e33, 3 \\times 10^8."""
    text = text.strip()
    while text.startswith("{") and text.endswith("}") and text.count("{") == 1:
        text = text[1:-1].strip()
    if repeating := _REPEATING.fullmatch(text):
        sign, whole, start, cycle = repeating.groups()
        nines = 10 ** len(start) * (10 ** len(cycle) - 1)
        value = Fraction(int(whole + start + cycle) - int(whole + start or 0), nines)
        return -value if sign else value
    compact = re.sub(r"\s*([+\-*/^{}]|\\times|\\cdot)\s*", r"\1", text)
    if match := _POWER_OF_TEN.fullmatch(compact):
        value = Fraction(10) ** int(match["exponent"])
        return -value if match["sign"] == "-" else value
    match = _NUMBER.fullmatch(compact)
    if not match:
        return None
    if match["decimal"]:
        value = Fraction(match["decimal"].rstrip(".")) * Fraction(10) ** int(match["exponent"] or 0)
    else:
        whole, top, bottom = (
            int(match[old] or match[new] or 0)
            for old, new in (("whole", "w"), ("top", "t"), ("bottom", "b"))
        )
        if not bottom:
            return None
        value = whole + Fraction(top, bottom)
    return -value if match["sign"] == "-" else value


@lru_cache(maxsize=65_536)
def read(text: str) -> sympy.Basic:
    """The sympy expression of a LaTeX text, unevaluated.

    Raises:
      Unreadable: it is no expression, or one of those that are not evaluated (sums, integrals, limits).
      TooLarge: it is nested too deep.
    """
    if braces_too_deep(text, MAX_DEPTH):
        raise TooLarge("nested too deep")
    text = prepared(text)
    if not text or _REFUSED.search(text) or _MISREAD.search(text) or _loose_group(text):
        raise Unreadable(text)
    try:
        expression = latex2sympy(
            text,
            conversion_config=ConversionConfig(
                lowercase_symbols=False, interpret_as_mixed_fractions=False
            ),
        )
    except Exception as error:  # noqa: BLE001 - the parser raises bare Exceptions
        raise Unreadable(text) from error
    if not isinstance(expression, sympy.Expr):
        raise Unreadable(text)
    return expression


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
        with mpmath.workdps(_DIGITS):
            a, b, c, d = (_Evaluator(point).value(side) for side in sides)
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
    with mpmath.workdps(_DIGITS):
        number = _Evaluator({}).value(expression)
        return mpmath.re(number) if mpmath.im(number) == 0 else None


def same_values(answers: list[sympy.Expr], golds: list[sympy.Expr]) -> bool:
    """Whether expressions agree pairwise at every point where both are defined, and at one at least."""
    expressions = [*answers, *golds]
    agreed = False
    for point in _points(expressions):
        with mpmath.workdps(_DIGITS):
            for answer, gold in zip(answers, golds, strict=True):
                a, b = _Evaluator(point).value(answer), _Evaluator(point).value(gold)
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
            points.append({name: scale * _generic(seed + name) for name in names})
    mixed = {name: (-1) ** k * 3 * _generic("mixed" + name) for k, name in enumerate(names)}
    return [*points, mixed]


def _generic(name: str) -> mpmath.mpf:
    """A number between 1/2 and 3/2 that belongs to the name."""
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    with mpmath.workdps(_DIGITS):
        return mpmath.mpf(int.from_bytes(digest[:20], "big")) / 2**160 + mpmath.mpf(1) / 2


def _tolerance(*expressions: sympy.Expr) -> mpmath.mpf:
    """The parser keeps 15 digits of a decimal; all else is exact."""
    inexact = any(e.atoms(sympy.Float) for e in expressions)
    return mpmath.mpf(10) ** (-12 if inexact else -(_DIGITS - 12))


def _close(a, b, tolerance) -> bool:
    return abs(a - b) <= tolerance * max(1 if not b else 0, abs(a), abs(b))


def _is_finite(number) -> bool:
    return bool(mpmath.isfinite(number))


def _same_infinity(a, b) -> bool:
    return bool(mpmath.isinf(a) and mpmath.isinf(b) and mpmath.re(a) == mpmath.re(b))


def prepared(text: str) -> str:
    """What math-verify's parser misreads, written so that it reads it right."""
    for pattern, replacement in _REPAIRS:
        text = pattern.sub(replacement, text)
    return text.strip()


def _loose_group(text: str) -> bool:
    r"""Whether braces that are no argument follow a digit or bracket: 5{6} is typeset as 56."""
    pending, outer, previous = 0, [], ""
    for position, _, token in tokens(text):
        if token == " ":
            continue
        if token == "{":
            loose = not pending and (previous.isdigit() or previous in ("}", ")"))
            if loose and text[position + 1 :].lstrip()[:1].isdigit():
                return True
            outer.append(max(0, pending - 1))
            pending = 0
        elif token == "}":
            pending = outer.pop() if outer else 0
        elif token in (r"\frac", r"\binom"):
            pending = 2
        elif token in "^_" or (token.startswith("\\") and token[1:].isalpha()):
            pending = 1
        elif not (previous == r"\sqrt" or token in "[]"):
            pending = max(0, pending - 1)
        previous = token
    return False


_WORDS = "arcsin|arccos|arctan|arccot|sinh|cosh|tanh|sin|cos|tan|cot|sec|csc|log|ln|exp"
_REPAIRS = [
    (re.compile(pattern), replacement)
    for pattern, replacement in (
        (rf"\\text\{{\s*({_WORDS})\s*\}}", r"\\\1 "),
        (rf"(?<![A-Za-z\\])({_WORDS})(?![A-Za-z])", r"\\\1 "),
        (r"\\text\{\s*\}", ""),
        (r"\*\*", "^"),
        # The degrees of \cos 15^\circ belong to its argument.
        (r"(?<![\d.])(\d+(?:\.\d*)?|\.\d+)\s*\^\\circ", r"(\1\\cdot\\frac{\\pi}{180})"),
        (r"\^\\circ", r"*\\frac{\\pi}{180}"),
        # A prime would be dropped, I and E_1 taken for constants.
        (r"([A-Za-z])('+)", lambda match: match[1] + "_{" + "prime" * len(match[2]) + "}"),
        (r"(?<![A-Za-z\\])([eE])(?=\s*_)", r"\\mathcal{\1}"),
        (r"(?<![A-Za-z\\{_])I(?![A-Za-z])", r"\\mathcal{I}"),
        (r"\\(gamma|Gamma)(?![A-Za-z])", r"\\mathcal{\1}"),  # nor this for the function
        (r"\\log\s*_\s*(\w)", r"\\log_{\1}"),
        (r"(?<![A-Za-z\d.])(\d+(?:\.\d*)?)[eE]([+-]?\d+)", r"\1*10^{\2}"),
        # 1\frac{1}{2} is a sum, 1/2x a half of x.
        (r"(?<![\w.}^_{])(\d+)\s*(\\frac\{\d+\}\{\d+\})", r"(\1+\2)"),
        (r"(?<![\d.^_])(\d+)\s*\(", r"\1*("),  # 2(3) would be a mixed number
        (r"\)\s*\(", ")*("),
        (r"(?<![\w.}^_{/])(\d+)\s*/\s*(\d+)(?=\s*[A-Za-z\\(])", r"\\frac{\1}{\2}"),
    )
]


_FUNCTIONS: Mapping[str, Callable] = {
    "sin": mpmath.sin, "cos": mpmath.cos, "tan": mpmath.tan, "cot": mpmath.cot, "sec": mpmath.sec,
    "csc": mpmath.csc, "asin": mpmath.asin, "acos": mpmath.acos, "atan": mpmath.atan,
    "acot": mpmath.acot, "asec": mpmath.asec, "acsc": mpmath.acsc, "sinh": mpmath.sinh,
    "cosh": mpmath.cosh, "tanh": mpmath.tanh, "asinh": mpmath.asinh, "acosh": mpmath.acosh,
    "atanh": mpmath.atanh, "Abs": abs, "re": mpmath.re, "im": mpmath.im,
    "conjugate": mpmath.conj, "arg": mpmath.arg, "sign": mpmath.sign,
}  # fmt: skip


class _Evaluator:
    """The value of a sympy expression where its variables have given values."""

    def __init__(self, point: Mapping[str, mpmath.mpf]):
        self._point = point
        self._nodes = 0

    def value(self, node: sympy.Basic):
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise TooLarge("too long")
        try:
            number = self._value(node)
        except (ZeroDivisionError, ValueError, OverflowError):
            return mpmath.nan
        if _is_finite(number) and number and abs(mpmath.log10(abs(number))) > _MAX_LOG10:
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
        written = [mpmath.nstr(argument, 20) for argument in arguments]
        return _generic(f"{name}({', '.join(written)})")


def _power(base, exponent):
    if not (_is_finite(base) and _is_finite(exponent)):
        if mpmath.isinf(base) and exponent == 1:
            return base
        return mpmath.nan
    if base == 0:
        if exponent == 0 or mpmath.re(exponent) < 0:
            return mpmath.nan
        return mpmath.mpf(0)
    if abs(exponent) * abs(mpmath.log10(abs(base))) > _MAX_LOG10 or abs(exponent) > 10**9:
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
    if not _is_finite(number) or abs(number) > 3000:
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
