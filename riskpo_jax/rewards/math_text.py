r"""One spelling for mathematics that differs in typography only.

Everything here is linear in the length of the text, or bounded: a model may write a megabyte of braces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_UNICODE = {
    "−": "-", "–": "-", "—": "-", "‐": "-", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ",
    "÷": "/", "π": r"\pi ", "√": r"\sqrt ", "∞": r"\infty ", "°": r"^\circ ", "º": r"^\circ ",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "≈": r"\approx ", "∪": r"\cup ", "∩": r"\cap ",
    "∈": r"\in ", "±": r"\pm ", "∓": r"\mp ", "∅": r"\emptyset ", "ℝ": r"\mathbb{R}", "′": "'",
    "″": "''", "’": "'", "∠": r"\angle ", "△": r"\triangle ", "θ": r"\theta ", "α": r"\alpha ",
    "β": r"\beta ", "λ": r"\lambda ", "ω": r"\omega ", "⟨": r"\langle ", "⟩": r"\rangle ",
    "¢": r"\text{ cents}", "½": r"\frac{1}{2}", "¼": r"\frac{1}{4}", "¾": r"\frac{3}{4}", "⅓": r"\frac{1}{3}",
    "⅔": r"\frac{2}{3}", "⁰": "^{0}", "¹": "^{1}", "²": "^{2}", "³": "^{3}", "⁴": "^{4}",
    "⁵": "^{5}", "⁶": "^{6}", "⁷": "^{7}", "⁸": "^{8}", "⁹": "^{9}", "，": ",", "（": "(",
    "）": ")", "：": ":", "；": ";", "、": ",", "。": ".", "％": "%", "＝": "=", "＋": "+",
    "－": "-", "\u00a0": " ", "\u2009": " ", "\u202f": " ", "\u3000": " ",
}  # fmt: skip
_UNICODE |= {chr(ord("０") + digit): str(digit) for digit in range(10)}
_UNICODE_TABLE = str.maketrans(_UNICODE)

_RADICAL = re.compile(r"√\s*(\d+(?:\.\d+)?)", re.ASCII)
_CHOOSE = re.compile(r"\{([^{}]*)\\choose(?![A-Za-z])([^{}]*)\}")
_WORD_END = r"(?![A-Za-z])"
_FONTS = re.compile(
    r"\\(?:bf|it|tt|sf|em|boldmath|tiny|small|normalsize|large|Large|LARGE|huge|Huge)(?![A-Za-z])"
    r"|\\(?:checkmark|blacksquare|qedsymbol|therefore|hfill)(?![A-Za-z])|\\(?:left|right)\s*\.(?!\d)"
)
_COLOR = re.compile(r"\\(?:text)?color\s*\{[^{}]*\}")
_ROMAN = re.compile(r"\{\s*\\rm(?![A-Za-z])([^{}]*)\}")
_SIZING = re.compile(
    r"\\(?:m?left|m?right|[bB]igg?[lrm]?|middle|displaystyle|textstyle|limits|nolimits)" + _WORD_END
)
_MATH_MODE = re.compile(r"(?<!\\)(?:\\[()\[\]]|\$)")
_ROW_GAP = re.compile(r"\\\\\[[^\[\]]{0,12}\]")  # \\\\[4pt]
_THIN = re.compile(r"(?<!\\)\\!")
_SPACES = re.compile(
    r"(?:(?<!\\)\\[,;:> ]|~|\\(?:quad|qquad|thinspace|enspace|hfill)(?![A-Za-z])|\s)+"
)
_FRACTIONS = re.compile(r"\\[dtc](frac|binom)(?![A-Za-z])")
_TEXT = re.compile(
    r"\\(?:text(?:bf|it|rm|sf|tt|sc|normal)?|mbox|hbox|mathrm|mathit|mathsf|operatorname\*?|rm)\s*\{"
)
_LETTER = re.compile(r"\\mathrm\s*\{\s*([eid])\s*\}")
_PLAIN = re.compile(r"(?<![A-Za-z\\])(pi|sqrt|infty)(?![A-Za-z])")
_TIMES = re.compile(r"(?<=\d)\s*x\s*(?=10\s*\^)")
_STYLE = re.compile(
    r"\\(?:mathbf|boldsymbol|bm|pmb|mathnormal|mathopen|mathclose|underline)\s*\{([^{}]*)\}"
)
_SYNONYMS = [
    (re.compile(r"\\(?:leqslant|leq)" + _WORD_END), r"\\le "),
    (re.compile(r"\\(?:geqslant|geq)" + _WORD_END), r"\\ge "),
    (re.compile(r"\\lt" + _WORD_END), "<"),
    (re.compile(r"\\gt" + _WORD_END), ">"),
    (re.compile(r"\\neq" + _WORD_END), r"\\ne "),
    (re.compile(r"\\(?:lbrace)" + _WORD_END), r"\\{"),
    (re.compile(r"\\(?:rbrace)" + _WORD_END), r"\\}"),
    (re.compile(r"\\(?:lbrack)" + _WORD_END), "["),
    (re.compile(r"\\(?:rbrack)" + _WORD_END), "]"),
    (re.compile(r"\\(?:lvert|rvert|vert)" + _WORD_END), "|"),
    (re.compile(r"\\(?:simeq|thickapprox|doteq)" + _WORD_END), r"\\approx "),
    (re.compile(r"\\varnothing" + _WORD_END), r"\\emptyset "),
    (re.compile(r"\\(?:ast)" + _WORD_END), "*"),
    (re.compile(r"\\div" + _WORD_END), "/"),
    (re.compile(r"\\(?:colon)" + _WORD_END), ":"),
    (re.compile(r"\\bigcup" + _WORD_END), r"\\cup "),
    (re.compile(r"\\degree" + _WORD_END + r"|(?<=\d)\s*\\deg" + _WORD_END), r"^\\circ "),
    (re.compile(r"(?:\{\})?\^\s*\{\s*\\circ\s*\}|(?:\{\})?\^\s*\\circ" + _WORD_END), r"^\\circ "),
    (re.compile(r"\^\s*\{\s*\\prime\s*\\prime\s*\}"), "''"),
    (re.compile(r"\^\s*\{\s*\\prime\s*\}|\^\s*\\prime" + _WORD_END), "'"),
]
_JOINED_THOUSANDS = re.compile(
    r"(?<=\d)(?:\{,\}|,?\\[,!]|,\\! ?|\{,\}\\!)\s?(?=\d{3}(?!\d))", re.ASCII
)
_THOUSANDS = re.compile(r"(?<![\d.,])\d{1,3}(?:,\d{3})+(?![\d,])", re.ASCII)
_SPACED = re.compile(r"-?\d{1,3}(?: \d{3})+(?:\.\d+)?", re.ASCII)
_LOOSE_SPACE = re.compile(r"(?<!\w)\s+|\s+(?!\w)")
_COMMAND = re.compile(r"\\(?:[A-Za-z]+|.)", re.DOTALL)
_OPENING, _CLOSING = {"(", "[", "{", r"\{", r"\langle"}, {")", "]", "}", r"\}", r"\rangle"}
_TOKEN = re.compile(r"\\(?:begin|end)\{[a-z]*\*?\}|\\(?:[A-Za-z]+|.)|.", re.DOTALL)


def clean(text: str) -> str:
    r"""Typography taken away, meaning kept.

    Dollar signs of math mode, sizing, kinds of space, \dfrac, bold print, synonyms such as \leq and \le,
    unicode signs, thousands separators that can be nothing else, a final full stop. Every kind of text
    becomes \text{...}; a currency sign stays as \$.
    """
    text = _RADICAL.sub(r"\\sqrt{\1}", text).translate(_UNICODE_TABLE)
    text = _ROW_GAP.sub(r"\\\\", text)
    text = _MATH_MODE.sub("", text)
    text = _ROMAN.sub(r"\\text{\1}", _COLOR.sub("", _FONTS.sub("", text)))
    text = _SIZING.sub("", text)
    text = _JOINED_THOUSANDS.sub("", text)
    text = _SPACES.sub(" ", _THIN.sub("", text))
    text = _CHOOSE.sub(r"\\binom{\1}{\2}", text)
    text = _FRACTIONS.sub(r"\\\1", text)
    text = _TEXT.sub(r"\\text{", _LETTER.sub(r" \1 ", text))
    text = _PLAIN.sub(r"\\\1 ", _TIMES.sub(r"\\times ", text))
    for _ in range(3):
        text = _STYLE.sub(r"\1", text)
    for pattern, replacement in _SYNONYMS:
        text = pattern.sub(replacement, text)
    text = _digits_in_text(text)
    return _without_stop(_full_arguments(text).strip())


def normalise(answer: str) -> str:
    """Equal normal forms mean the same: `clean`, words without their wrapper, no needless spaces.

    Spaces stay between two words or numbers: "1 1/2" is not "11/2".
    """
    answer = clean(answer).replace(r"\$", "").replace(r"\%", "%")
    answer = join_thousands(re.sub(r"\\text\{([^{}]*)\}", r"\1", answer)).strip()
    return _LOOSE_SPACE.sub("", re.sub(r"\s+", " ", answer))


def join_thousands(text: str) -> str:
    """Takes the commas out of numbers such as 1,234,567; the spaces of 1 234 567, alone in the text."""
    if _SPACED.fullmatch(text.strip()):
        return text.strip().replace(" ", "")
    return _THOUSANDS.sub(lambda match: match[0].replace(",", ""), text)


def tokens(text: str) -> Iterator[tuple[int, int, str]]:
    r"""(position, depth of brackets around it, token): a token is a \command or a character."""
    depth = 0
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in _CLOSING or token.startswith(r"\end{"):
            depth = max(0, depth - 1)
        yield match.start(), depth, token
        if token in _OPENING or token.startswith(r"\begin{"):
            depth += 1


def split_top(text: str, separator: re.Pattern) -> tuple[list[str], list[str]]:
    """The parts between matches of `separator` outside all brackets, and the separators."""
    parts, found, start, skip_to = [], [], 0, 0
    for position, depth, _ in tokens(text):
        if depth or position < skip_to:
            continue
        if match := separator.match(text, position):
            parts.append(text[start:position].strip())
            found.append(match[0].strip())
            start = skip_to = match.end()
    return [*parts, text[start:].strip()], found


def matching_end(text: str, start: int = 0) -> int | None:
    """Where the bracket that opens at `start` is closed: the position after it."""
    for position, depth, token in tokens(text[start:]):
        if not depth and token in _CLOSING:
            return start + position + len(token)
    return None


def braces_too_deep(text: str, limit: int) -> bool:
    depth = deepest = 0
    for char in text:
        depth += (char == "{" or char == "(") - (char == "}" or char == ")")
        deepest = max(deepest, depth)
    return deepest > limit


def _full_arguments(text: str) -> str:
    r"""\frac12 and \sqrt3 with braces around their arguments."""
    text = re.sub(r"\\(frac|sqrt|binom)(?![A-Za-z])\s*", r"\\\1", text)
    out, position = [], 0
    for match in re.finditer(r"\\(frac|sqrt|binom)(?![A-Za-z])", text):
        if match.start() < position:
            # Inside an argument that was taken over whole; its own arguments come with it.
            continue
        out.append(text[position : match.end()])
        position = match.end()
        for _ in range(1 if match[1] == "sqrt" else 2):
            argument, position = _argument(text, position)
            out.append(argument)
    return "".join(out) + text[position:]


def _argument(text: str, position: int) -> tuple[str, int]:
    """The argument at `position`, in braces, and where it ends."""
    while position < len(text) and text[position] == " ":
        position += 1
    if position < len(text) and text[position] == "[":  # \sqrt[3]{2}
        end = text.find("]", position)
        if end >= 0:
            inner, after = _argument(text, end + 1)
            return text[position : end + 1] + inner, after
    if position < len(text) and text[position] == "(" and text[:position].endswith(r"\sqrt"):
        end = matching_end(text, position)
        if end is not None:
            return "{" + _full_arguments(text[position + 1 : end - 1]) + "}", end
    if position < len(text) and text[position] == "{":
        end = matching_end(text, position)
        if end is not None:
            return "{" + _full_arguments(text[position + 1 : end - 1]) + "}", end
        return "", position
    match = _COMMAND.match(text, position) or re.compile(r"[A-Za-z0-9]").match(text, position)
    if not match or match[0] in (r"\frac", r"\sqrt"):
        return "", position
    return "{" + match[0] + "}", match.end()


def _digits_in_text(text: str) -> str:
    r"""\text{13} is 13, and \text{ and } a separator of its own."""
    text = re.sub(r"\\text\{[\s.]*\}", " ", text)
    text = re.sub(r"\\text\{\s*(-?[\d.,]*\d)\s*\}", r"\1", text)
    return re.sub(r"\\text\{\s*,?\s*(and|or)\s*,?\s*\}", r" \1 ", text)


def _without_stop(text: str) -> str:
    return text.rstrip(" .") if not text.endswith("..") else text
