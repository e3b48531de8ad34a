"""Exact evaluation of arithmetic that a model wrote: integers, + - * / and parentheses only.

    sum     = ["-" | "+"] product { ("+" | "-") product }
    product = factor { ("*" | "/") factor }
    factor  = integer | "(" sum ")"

A parser of its own, because the text is hostile: no `eval`, no names, no powers, bounded length,
depth and size of integers. Spaces may stand between tokens, never inside an integer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

MAX_LENGTH = 400  # characters
MAX_DEPTH = 32  # parentheses inside each other
MAX_DIGITS = 12  # of one integer

_TOKEN = re.compile(r"[ \t]*(0|[1-9][0-9]*|[-+*/()])", re.ASCII)
_SPELLINGS = str.maketrans({"×": "*", "·": "*", "⋅": "*", "÷": "/", "−": "-", "–": "-"})


class ParseError(ValueError):
    """The text is no expression of this grammar, or exceeds a limit."""


class UndefinedError(ParseError):
    """The text is an expression, but it divides by zero."""


@dataclass(frozen=True)
class Parsed:
    """The exact value, the integers in the order of the text, and the text without spaces."""

    value: Fraction
    integers: tuple[int, ...]
    text: str


def parse(text: str) -> Parsed:
    """Evaluate an expression exactly.

    × · ⋅ ÷ and the Unicode minus are read as * / -. Raises ParseError for anything outside the
    grammar or the limits above, UndefinedError (a ParseError) for a division by zero.
    """
    tokens = _tokenize(text)
    parser = _Parser(tokens)
    value = parser.sum(depth=0)
    if parser.position < len(tokens):
        raise ParseError(f"unexpected {tokens[parser.position]!r}")
    if value is None:
        raise UndefinedError("division by zero")
    integers = tuple(int(token) for token in tokens if token.isdigit())
    return Parsed(value, integers, "".join(tokens))


def _tokenize(text: str) -> list[str]:
    text = text.strip().translate(_SPELLINGS)
    if len(text) > MAX_LENGTH:
        raise ParseError(f"longer than {MAX_LENGTH} characters")
    tokens, position = [], 0
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ParseError(f"unexpected {text[position]!r}")
        if len(match[1]) > MAX_DIGITS:
            raise ParseError(f"an integer of more than {MAX_DIGITS} digits")
        tokens.append(match[1])
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent. A value of None is undefined: a division by zero went into it."""

    def __init__(self, tokens: list[str]):
        self.tokens = tokens
        self.position = 0

    def accept(self, allowed: str) -> str:
        """The next token if it is one of the characters `allowed`, else ""."""
        token = self.tokens[self.position] if self.position < len(self.tokens) else ""
        if not token or token not in allowed:
            return ""
        self.position += 1
        return token

    def sum(self, depth: int) -> Fraction | None:
        sign = self.accept("+-")
        value = _apply(Fraction(0), sign or "+", self.product(depth))
        while operator := self.accept("+-"):
            value = _apply(value, operator, self.product(depth))
        return value

    def product(self, depth: int) -> Fraction | None:
        value = self.factor(depth)
        while operator := self.accept("*/"):
            value = _apply(value, operator, self.factor(depth))
        return value

    def factor(self, depth: int) -> Fraction | None:
        if self.accept("("):
            if depth == MAX_DEPTH:
                raise ParseError(f"more than {MAX_DEPTH} parentheses inside each other")
            value = self.sum(depth + 1)
            if not self.accept(")"):
                raise ParseError("a parenthesis is not closed")
            return value
        if self.position == len(self.tokens):
            raise ParseError("the text ends where a number is due")
        token = self.tokens[self.position]
        if not token.isdigit():
            raise ParseError(f"{token!r} where a number is due")
        self.position += 1
        return Fraction(int(token))


def _apply(left: Fraction | None, operator: str, right: Fraction | None) -> Fraction | None:
    if left is None or right is None:
        return None
    if operator == "+":
        return left + right
    if operator == "-":
        return left - right
    if operator == "*":
        return left * right
    return left / right if right else None
