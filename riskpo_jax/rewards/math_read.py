r"""LaTeX to numbers and sympy expressions, by math-verify's parser.

The parser evaluates nothing, which makes it safe, and reads some texts as what they do not say: 2(3) as a
mixed number, y' as y, 5{6} as a sum. Here such texts are rewritten before it sees them, or refused.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

import sympy
from latex2sympy2_extended.latex2sympy2 import ConversionConfig, latex2sympy

from riskpo_jax.rewards.math_text import braces_too_deep, tokens

MAX_DEPTH = 24  # of braces and brackets
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


@lru_cache(maxsize=8192)
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
