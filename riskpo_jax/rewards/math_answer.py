r"""The structure of a final answer: number with unit, list, tuple or interval, set, matrix, relation.

What is inside (expressions) stays text here; `math_numeric` reads it. The structure decides what may equal
what: a list of guesses is not a number, a set not an interval, whatever a computer algebra system makes of
them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import product

from riskpo_jax.rewards import math_units
from riskpo_jax.rewards.math_text import join_thousands, matching_end, split_top, tokens
from riskpo_jax.rewards.math_units import Unit


@dataclass(frozen=True)
class Quantity:
    r"""An expression with what it counts: 5, 2x+1, 12 \text{ cm}^2, 50\%, \$3 \text{ million}.

    factor: of words such as million. unit: None without one, or with words that are no known unit.
    written: the whole, where letters without a wrapper were taken for the unit ("6 m"), which may as well be
    variables.
    """

    text: str
    unit: Unit | None = None
    percent: bool = False
    factor: Fraction = Fraction(1)
    written: str = ""


@dataclass(frozen=True)
class Words:
    """A name, a choice, a time: compared by letters and digits."""

    text: str


@dataclass(frozen=True)
class Based:
    """Digits in a base: 101_2."""

    digits: str
    base: int


@dataclass(frozen=True)
class Group:
    r"""Items between brackets: a tuple or interval (the brackets tell), a set (opening is "\{"), a ratio
    (opening is ":")."""

    opening: str
    closing: str
    items: tuple[Node, ...]


@dataclass(frozen=True)
class Several:
    """A list without brackets; `word` is "and" or "or" where only that joins the items, else ","."""

    items: tuple[Node, ...]
    word: str = ","


@dataclass(frozen=True)
class Union:
    """Sets joined by cup, cap or setminus: parts[0] operators[0] parts[1] ..."""

    parts: tuple[Node, ...]
    operators: tuple[str, ...]


@dataclass(frozen=True)
class Matrix:
    rows: tuple[tuple[Node, ...], ...]


@dataclass(frozen=True)
class Relation:
    """A chain sides[0] operators[0] sides[1] ...; the sides are text."""

    sides: tuple[str, ...]
    operators: tuple[str, ...]


Node = Quantity | Words | Based | Group | Several | Union | Matrix | Relation

MAX_ITEMS = 64
_SEPARATOR = re.compile(
    r",\s*(?:and|or)(?![A-Za-z])|[,;]|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z])|\\\\|\\text\{\s*[,;]\s*\}"
)
_RELATION = re.compile(r"\\(?:le|ge|ne|approx|in|equiv)(?![A-Za-z])|<=|>=|!=|:=|[<>=]")
_RELATION_NAMES = {"<=": r"\le", ">=": r"\ge", "!=": r"\ne", ":=": "="}
_SET_OPERATOR = re.compile(
    r"\\(?:cup|cap|setminus|backslash)(?![A-Za-z])|(?<=[)\]}])\s*U\s*(?=[(\[])"
)
_MATRIX = re.compile(
    r"(?P<scalar>[^&\[]*?)(?:\\cdot\s*)?\[?\s*\\begin\{(?P<kind>[pbB]?matrix|array|smallmatrix)\}"
    r"(?:\{[clr| ]*\})?(?P<body>.*)"
    r"\\end\{(?P=kind)\}\s*\]?",
    re.DOTALL,
)
_TRANSPOSED = re.compile(
    r"(.*(?:[)\]]|matrix\}))\s*\^\s*(?:T|\\top|\{\s*(?:T|\\top|\\text\{T\})\s*\}|\\text\{T\})",
    re.DOTALL,
)
_SET_BUILDER = re.compile(
    r"\\\{\s*(?P<name>[a-z])\s*(?:\\in\s*\\mathbb\{R\}\s*)?(?:\\mid|\||:)(?P<condition>.*)\\\}"
)
_WHOLE_TEXT = re.compile(r"\\text\{([^{}]*)\}")
_BASED = re.compile(
    r"\(?(?P<digits>-?[0-9A-Z]+(?:\.[0-9A-Z]+)?)\)?\s*_\s*(?:\{\s*\(?(?:\\text\{)?(?P<b>\w+)\}?\)?\s*\}|(?P<c>\d))"
)
_BASES = {"two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9}
_TIME = re.compile(r"\d{1,2}:\d{2}\s*(?:[ap]\.?\s*m\.?)?", re.IGNORECASE)
_BARE_WORD = re.compile(
    r"(?i:yes|no|odd|true)|"
    r"[A-Za-z][A-Za-z'-]{3,}(?: [A-Za-z0-9'-]+)*|[A-Za-z]{2,}(?: [A-Za-z0-9'-]+)+"
)
_SPOKEN = re.compile(
    r"(?i:(?:so|thus|hence|therefore)?,?\s*(?:the\s+)?(?:final\s+)?(?:answer|result|solution)\s*(?:is|:|=)\s*:?)"
)
_INTRODUCTION = re.compile(rf"\\text\{{\s*{_SPOKEN.pattern}\s*\}}\s*(?=\S)")
_RATIO = re.compile(r":|\\text\{\s*to\s*\}|(?<=[\d ])to(?=[\d ])")
_CURRENCY = re.compile(r"\\\$|€|£|₹|\\text\{\s*(?:USD|Rs\.?)\s*\}")
_PERCENT = re.compile(r"\s*(?:\\?%|\\text\{\s*(?:percent|per cent|\\?%)\s*\}|(?<=[\d} ])percent)$")
_DEGREE = re.compile(r"\s*\^\\circ\s*(?:\\text\{\s*([CFK])\s*\}|([CFK]))?$")
_FUNCTION = re.compile(r"\\?(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
_ARC = re.compile(r"(?<=\d)\s*('{1,2})$")
_UNIT_TEXT = re.compile(
    r"(?:\s|\{\})*((?:(?:/|\\cdot)?\s*\\text\{[^{}]*\}\s*(?:\^\s*(?:\{-?\d\}|-?\d))?\s*)+)$"
)
_UNIT_PLAIN = re.compile(
    r"(?P<number>.*[\d})!.])(?P<gap>\s*)"
    r"(?P<unit>[A-Za-z]+\.?(?:\s*\^\s*(?:\{-?\d\}|-?\d))?"
    r"(?:(?:\s*/\s*|\s+)[A-Za-z]+\.?(?:\s*\^\s*(?:\{-?\d\}|-?\d))?)*)$"
)
_PURE_NUMBER = re.compile(r"(?:[\d\s.,+\-*/^{}()!]|\\(?:frac|sqrt|pi|cdot|times)(?![A-Za-z]))+")


def readings(text: str) -> list[Node]:
    """What a cleaned text may mean: "70,110" is one number or two."""
    joined = join_thousands(text)
    return [parse(joined)] if joined == text else [parse(joined), parse(text)]


def parse(text: str) -> Node:
    """The structure of a cleaned text."""
    text = _INTRODUCTION.sub("", text.strip())
    if whole := _WHOLE_TEXT.fullmatch(text):
        return _parse_words(whole[1])
    parts, separators = split_top(text, _SEPARATOR)
    parts = [part for part in parts if part]
    if len(parts) > 1:
        words = {re.sub(r"\W", "", s) or "," for s in separators}
        items = _flat([parse(part) for part in parts[:MAX_ITEMS]])
        return Several(items, words.pop() if len(words) == 1 else ",")
    text = parts[0] if parts else text
    sides, operators = split_top(text, _RELATION)
    if operators:
        if len(sides) == 2 and not sides[0] and operators[0] in ("=", r"\approx"):
            return parse(sides[1])  # "about 8.24 mph"
        return Relation(tuple(sides), tuple(_RELATION_NAMES.get(o, o) for o in operators))
    pieces, operators = split_top(text, _SET_OPERATOR)
    if operators and all(pieces):
        names = tuple({"U": r"\cup", r"\backslash": r"\setminus"}.get(o, o) for o in operators)
        return Union(tuple(parse(piece) for piece in pieces), names)
    return _parse_one(text)


def _parse_one(text: str) -> Node:
    """What is no list, no relation and no union."""
    if matrix := _MATRIX.fullmatch(text):
        return _parse_matrix(matrix["body"], matrix["scalar"].rstrip(" *"))
    if transposed := _TRANSPOSED.fullmatch(text):
        return _transpose(_parse_one(transposed[1].strip()))
    if text == r"\emptyset":
        return Group(r"\{", r"\}", ())
    if text.startswith(("(", "[", r"\{", r"\langle")) and matching_end(text) == len(text):
        return _parse_bracketed(text)
    if _TIME.fullmatch(re.sub(r"\\text\{([^{}]*)\}", r"\1", text).strip()) and re.search(
        "m", re.sub(r"\\text", "", text), re.IGNORECASE
    ):
        return Words(re.sub(r"\\text\{([^{}]*)\}", r"\1", text))
    if based := _BASED.fullmatch(text):
        base = based["b"] or based["c"]
        base = _BASES.get(base.lower(), int(base) if base.isdecimal() else 0)
        if base and not (len(based["digits"]) == 1 and based["digits"].isalpha()):
            return Based(based["digits"], base)
    if _BARE_WORD.fullmatch(text) and not text.isupper():
        return Words(text)
    ratio, colons = split_top(text, _RATIO)
    if colons and all(ratio):
        return Group(":", ":", tuple(parse(part) for part in ratio))
    signs = _plus_minus(text)
    if len(signs) > 1:
        return Several(tuple(_parse_quantity(sign) for sign in signs), ",")
    return _parse_quantity(text)


def _parse_words(inner: str) -> Node:
    r"""The content of \text{...} where that is all there is."""
    inner = _SPOKEN.sub("", inner.strip())
    stripped = re.fullmatch(r"\(([A-Z])\)", inner)
    if stripped:
        return Words(stripped[1])
    if re.search(r"[\d=]", inner) and not re.match(r"[A-Za-z]{3,}", inner):
        return parse(inner)
    parts = [p for p in re.split(r"\s*(?:,|;|\band\b|\bor\b)\s*", inner) if p]
    if len(parts) > 1:
        return Several(tuple(_parse_words(part) for part in parts[:MAX_ITEMS]))
    return Words(inner)


def _parse_matrix(body: str, scalar: str) -> Matrix:
    rows, _ = split_top(body.strip(), re.compile(r"\\\\"))
    split = [split_top(row, re.compile("&"))[0] for row in rows if row.strip()]
    cells = [[f"({scalar})*({cell})" if scalar else cell for cell in row] for row in split]
    return Matrix(tuple(tuple(_parse_one(cell) for cell in row) for row in cells))


def _transpose(node: Node) -> Node:
    """A row is written as a column; a tuple is either."""
    if isinstance(node, Matrix) and len({len(row) for row in node.rows}) == 1:
        return Matrix(tuple(zip(*node.rows, strict=True)))
    return node


def _parse_bracketed(text: str) -> Node:
    if builder := _SET_BUILDER.fullmatch(text):
        condition = parse(builder["condition"])
        if isinstance(condition, Relation) and builder["name"] in condition.sides:
            return condition
    positions = list(tokens(text))
    opening, closing = positions[0][2], positions[-1][2]
    inner = text[len(opening) : -len(closing)].strip()
    parts, _ = split_top(inner, re.compile(r"[,;]"))
    if opening == r"\{" and closing == r"\}":
        content = parse(inner) if inner else Several(())
        items = content.items if isinstance(content, Several) else (content,)
        return Group(opening, closing, items)
    if len(parts) > 1 and len(parts) <= MAX_ITEMS:
        opening, closing = ("(", ")") if opening == r"\langle" else (opening, closing)
        return Group(opening, closing, tuple(_parse_one(part) for part in parts))
    if opening == "(" and closing == ")":
        if re.fullmatch(r"[A-Z]", inner):
            return Words(inner)
        return parse(inner)
    return _parse_quantity(text)


def _parse_quantity(text: str) -> Quantity:
    unit, percent, factor, written = None, False, Fraction(1), ""
    if _CURRENCY.search(text):
        name = "euro" if "€" in text else "rupee" if "Rs" in text or "₹" in text else "dollar"
        text, unit = _CURRENCY.sub("", text).strip(), math_units.parse_unit(name)
    text = text.strip()
    if match := _PERCENT.search(text):
        if match.start():
            text, percent = text[: match.start()].strip(), True
    elif (match := _DEGREE.search(text)) and not _FUNCTION.search(text):
        kind = match[1] or match[2]
        if match.start():
            text = text[: match.start()].strip()
            unit = math_units.parse_unit({"C": "degC", "F": "degF", "K": "K"}.get(kind, "deg"))
    elif match := _ARC.search(text):
        text = text[: match.start()].strip()
        unit = math_units.parse_unit("arcsec" if len(match[1]) == 2 else "arcmin")
    else:
        number, words = _split_unit(text)
        if words:
            written = "" if r"\text" in text else text
            factor, words = _multiplied(words)
            unit = math_units.parse_unit(words) or unit
            text, percent = number, words.strip() in ("percent", "percents")
            if _DEGREE.search(text):
                text = text[: _DEGREE.search(text).start()]
    return Quantity(_unwrapped(text), unit, percent, factor, written)


def _split_unit(text: str) -> tuple[str, str]:
    """An expression and the words after it that name its unit, "" without such words."""
    if (match := _UNIT_TEXT.search(text)) and match.start():
        words = re.sub(r"\\text\{([^{}]*)\}", r" \1 ", match[1]).replace(r"\cdot", " ")
        if math_units.may_be_unit(words) or math_units.parse_unit(words):
            return text[: match.start()].strip(), " ".join(words.split())
        return text, ""
    match = _UNIT_PLAIN.fullmatch(text)
    if not match or not _PURE_NUMBER.fullmatch(match["number"]):
        return text, ""
    unit = match["unit"]
    if len(unit) == 1 and not match["gap"]:
        return text, ""
    words = re.sub(r"[^A-Za-z]", "", unit)
    if math_units.is_plain_unit(unit) or (
        len(words) >= 4 and words.islower() and math_units.may_be_unit(unit)
    ):
        return match["number"].strip(), unit
    return text, ""


def _multiplied(words: str) -> tuple[Fraction, str]:
    """ "million dollars" -> (1000000, "dollars")."""
    first, _, rest = words.partition(" ")
    factor = math_units.multiplier(first)
    return (Fraction(factor), rest) if factor else (Fraction(1), words)


def _unwrapped(text: str) -> str:
    """Without parentheses or braces around the whole."""
    while (
        len(text) > 2
        and text[0] in "({"
        and text[-1] == {"(": ")", "{": "}"}[text[0]]
        and matching_end(text) == len(text)
    ):
        text = text[1:-1].strip()
    return text


def _plus_minus(text: str) -> list[str]:
    r"""a \pm b is a + b and a - b; \mp takes the sign that \pm has not."""
    pieces = re.split(r"\\(pm|mp)(?![A-Za-z])", text)
    kinds = pieces[1::2]
    if not 1 <= len(kinds) <= 3:
        return [text]
    choices = [(1, -1)] if "mp" in kinds else [(1, -1)] * len(kinds)
    variants = []
    for signs in product(*choices):
        signs = [s if k == "pm" else -s for k, s in zip(kinds, signs * len(kinds), strict=False)]
        marks = ["+" if sign > 0 else "-" for sign in signs]
        joined = pieces[0] + "".join(m + p for m, p in zip(marks, pieces[2::2], strict=True))
        variants.append(joined.strip())
    return variants


def _flat(nodes: Sequence[Node]) -> tuple[Node, ...]:
    flat: list[Node] = []
    for node in nodes:
        flat.extend(node.items if isinstance(node, Several) else [node])
    return tuple(flat)
