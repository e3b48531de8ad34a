r"""Whether a final answer equals the reference: by structure first, by value within it.

The reference says what kind of thing is asked for, so the comparison is not symmetric: a unit, a percent
sign or a name ("x =") that the reference lacks may stand in the answer, and one that it has may be left
out; what contradicts it may not.
"""

from __future__ import annotations

import re
from fractions import Fraction

from riskpo_jax.rewards import math_numeric
from riskpo_jax.rewards.math_answer import (
    Based,
    Group,
    Matrix,
    Node,
    Quantity,
    Relation,
    Several,
    Union,
    Words,
    parse,
)
from riskpo_jax.rewards.math_quantities import (
    EXACT,
    Tolerance,
    has_variables,
    real_value,
    same_quantity,
)
from riskpo_jax.rewards.math_read import Unreadable
from riskpo_jax.rewards.math_reals import flip, same_reals
from riskpo_jax.rewards.math_text import normalise

ROUNDING = Fraction(1, 100)  # relative; how far "= 3.14" may be from what it is said to approximate


_NAME = re.compile(
    r"(?:m\s*)?(?:\\(?:angle|triangle|overline|vec|hat|bar|tilde|overrightarrow|text|dot|ddot)\s*)?"
    r"(?:\{[^{}]*\}|(?:[A-Za-z] ?){1,4}|\\[A-Za-z]+)(?:\s*_\s*(?:\{[^{}]*\}|\w))?'*"
    r"(?:\s*\^\s*\{?-1\}?)?(?:\s*\([^()=]*\))?"
)
_DERIVATIVE = re.compile(r"\\frac\{d\^?[^{}]*\}\{d[^{}]*\}|[a-z]'+(?:\([a-z]\))?")
_ARGUMENT = re.compile(r"[A-Za-z]+\s*\(\s*([A-Za-z])\s*\)")
_TUPLE_OF_NAMES = re.compile(
    r"\(\s*[A-Za-z]\w*(?:_\{?\w+\}?)?(?:\s*,\s*[A-Za-z]\w*(?:_\{?\w+\}?)?)+\s*\)"
)
_INTRODUCTION = re.compile(r"(?i:the|an?|option|choice|answer) +(?=\S)")
_REASONING = re.compile(r"\b(?:where|if|when|or|not|for|such|since|because|but|let)\b")
_INEQUALITIES = {"<", ">", r"\le", r"\ge"}


def same(answer: Node, gold: Node, tolerance: Tolerance = EXACT) -> bool:
    """Whether `answer` says what `gold` says.

    Raises:
      TooLarge: an expression that would take too long.
    """
    if answer == gold:
        return True
    match gold, answer:
        case Relation(), _:
            return _same_as_relation(answer, gold, tolerance)
        case _, Relation():
            return _relation_gives(answer, gold, tolerance)
        case Several(), Several():
            return _matched(answer.items, gold.items, tolerance)
        case Several(), Group(opening=r"\{"):
            return _matched(answer.items, gold.items, tolerance)
        case Group(opening=r"\{"), Group(opening=r"\{"):
            return _same_set(answer, gold, tolerance)
        case Group(opening=r"\{"), Several():
            return _matched(answer.items, gold.items, tolerance)
        case Group(), Several():
            return _named_coordinates(answer, gold, tolerance) or same_reals(answer, gold)
        case Group(), Group():
            return _same_group(answer, gold, tolerance)
        case Matrix(), Matrix():
            return _same_matrix(answer, gold, tolerance)
        case Matrix(), Group(opening="(", closing=")"):
            return _same_column(gold, answer, tolerance)
        case (Union(), _) | (_, Union()):
            return _same_union(answer, gold, tolerance) or same_reals(answer, gold)
        case Group(opening=r"\{", items=(single,)), _:
            return same(answer, single, tolerance)
        case _, Group(opening=r"\{", items=(single,)):
            return same(single, gold, tolerance)
        case Based(), Based():
            return _digits(answer) == _digits(gold) and answer.base == gold.base
        case Quantity(), Based():
            return answer.base == 10 and same(Quantity(answer.digits), gold, tolerance)
        case (Group(), Quantity() | Words()) | (Quantity() | Words(), Group()):
            return same_reals(answer, gold)
        case (Words(), _) | (_, Words()):
            return _same_words(answer, gold)
        case Quantity(), Quantity():
            return same_quantity(answer, gold, tolerance)
    return False


def _matched(answers: tuple[Node, ...], golds: tuple[Node, ...], tolerance: Tolerance) -> bool:
    """Whether items can be paired, each with an equal one, in any order."""
    if len(answers) != len(golds):
        return False
    left = list(golds)
    for answer in answers:
        found = next((g for g in left if same(answer, g, tolerance)), None)
        if found is None:
            return False
        left.remove(found)
    return True


def _same_set(answer: Group, gold: Group, tolerance: Tolerance) -> bool:
    """Braces: repeated elements count once."""
    return all(any(same(a, g, tolerance) for g in gold.items) for a in answer.items) and all(
        any(same(a, g, tolerance) for a in answer.items) for g in gold.items
    )


def _same_group(answer: Group, gold: Group, tolerance: Tolerance) -> bool:
    return (
        (answer.opening, answer.closing) == (gold.opening, gold.closing)
        and len(answer.items) == len(gold.items)
        and all(same(a, g, tolerance) for a, g in zip(answer.items, gold.items, strict=True))
    )


def _named_coordinates(answer: Several, gold: Group, tolerance: Tolerance) -> bool:
    """x = 1, y = 2 for (1, 2): names in the order of the alphabet."""
    if gold.opening != "(" or len(answer.items) != len(gold.items):
        return False
    if not all(isinstance(a, Relation) and a.operators == ("=",) for a in answer.items):
        return False
    names = [a.sides[0] for a in answer.items]
    if sorted(set(names)) != names or not all(re.fullmatch("[A-Za-z]", name) for name in names):
        return False
    values = [parse(a.sides[1]) for a in answer.items]
    return all(same(v, g, tolerance) for v, g in zip(values, gold.items, strict=True))


def _same_matrix(answer: Matrix, gold: Matrix, tolerance: Tolerance) -> bool:
    shapes = [[len(row) for row in matrix.rows] for matrix in (answer, gold)]
    return shapes[0] == shapes[1] and all(
        same(a, g, tolerance)
        for rows in zip(answer.rows, gold.rows, strict=True)
        for a, g in zip(*rows, strict=True)
    )


def _same_column(gold: Matrix, answer: Group, tolerance: Tolerance) -> bool:
    """A column vector may be written as a tuple."""
    if any(len(row) != 1 for row in gold.rows) or len(gold.rows) != len(answer.items):
        return False
    golds = [row[0] for row in gold.rows]
    return all(same(a, g, tolerance) for a, g in zip(answer.items, golds, strict=True))


def _same_union(answer: Node, gold: Node, tolerance: Tolerance) -> bool:
    return (
        isinstance(answer, Union)
        and isinstance(gold, Union)
        and set(answer.operators) == set(gold.operators) == {r"\cup"}
        and _matched(answer.parts, gold.parts, tolerance)
    )


def _digits(number: Based) -> str:
    return number.digits.lstrip("0") or "0"


def _same_words(answer: Node, gold: Node) -> bool:
    """Letters and digits alone count, and case only in a single letter."""
    texts = [node.text for node in (answer, gold) if isinstance(node, Words | Quantity)]
    if len(texts) < 2 or any(isinstance(n, Quantity) and n.unit for n in (answer, gold)):
        return False
    texts = [_INTRODUCTION.sub("", normalise(text)) for text in texts]
    plain = [re.sub(r"[\s.,'\"!?(){}-]|\\text", "", text) for text in texts]
    if len(plain[1]) > 1:
        plain = [text.casefold() for text in plain]
    return bool(plain[0]) and plain[0] == plain[1]


# Relations


def _is_label(side: str, gold_has_variables: bool) -> bool:
    """Whether the left side of "side = value" only names what is asked for."""
    if not side or _REASONING.search(side) or real_value(side) is not None:
        return False
    if _NAME.fullmatch(side) or _DERIVATIVE.fullmatch(side) or _TUPLE_OF_NAMES.fullmatch(side):
        return True
    if side.startswith(r"\text{"):
        return True
    return not gold_has_variables and bool(re.search(r"(?<![\\A-Za-z])[A-Za-z]", side))


def _variables(gold: Node) -> bool:
    return isinstance(gold, Quantity) and has_variables(gold.text)


def _relation_gives(answer: Relation, gold: Node, tolerance: Tolerance) -> bool:
    """Whether "x = 2 + 3 = 5" gives `gold`: every side that is no name equals it."""
    if not set(answer.operators) <= {"=", r"\approx", r"\in"}:
        return same_reals(answer, gold)
    sides, variables = list(answer.sides), _variables(gold)
    if not all(sides):
        return False
    if _is_label(sides[0], variables):
        sides, operators = sides[1:], answer.operators[1:]
    elif len(sides) == 2 and _NAME.fullmatch(sides[1]) and real_value(sides[0]) is not None:
        sides, operators = sides[:1], ()
    else:
        operators = answer.operators
    if r"\in" in operators:
        return False
    return _chain_equals(sides, operators, gold, tolerance)


def _chain_equals(
    sides: list[str], operators: tuple[str, ...], gold: Node, tolerance: Tolerance
) -> bool:
    """All sides before the first approximation equal `gold`, and what is after it is near."""
    runs: list[list[str]] = [[sides[0]]]
    for operator, side in zip(operators, sides[1:], strict=True):
        if operator == "=":
            runs[-1].append(side)
        else:
            runs.append([side])
    nodes = [[parse(side) for side in run] for run in runs]
    equal = [_all_equal(run, gold, tolerance) for run in nodes]
    if len(runs) == 1:
        return equal[0]
    # What is after the sign is a second guess, unless it is the rounding that a decimal asks for.
    rounded = isinstance(gold, Quantity) and "." in gold.text and "." not in "".join(runs[0])
    if not (equal[0] or (rounded and any(equal))):
        return False
    values = [real_value(_bare(side)) for run in runs for side in run]
    known = [value for value in values if value is not None]
    return len(known) == len(values) and max(known) - min(known) <= ROUNDING * max(map(abs, known))


def _all_equal(nodes: list[Node], gold: Node, tolerance: Tolerance) -> bool:
    """Every one is `gold`, or another writing of one that is: 1/4 = 25\\%."""
    right = [node for node in nodes if same(node, gold, tolerance)]
    return bool(right) and all(
        node in right or any(same(found, node, tolerance) for found in right) for node in nodes
    )


def _bare(side: str) -> str:
    node = parse(side)
    return node.text if isinstance(node, Quantity) else side


def _same_as_relation(answer: Node, gold: Relation, tolerance: Tolerance) -> bool:
    operators = set(gold.operators)
    if operators <= {"=", r"\approx"}:
        if isinstance(answer, Relation):
            return _same_equation(answer, gold, tolerance)
        return _equation_says(answer, gold, tolerance)
    if operators == {r"\in"}:
        inner = parse(gold.sides[-1])
        if isinstance(answer, Relation) and answer.operators == (r"\in",):
            return same(parse(answer.sides[-1]), inner, tolerance)
        return same(answer, inner, tolerance)
    return same_reals(answer, gold) or _same_inequality(answer, gold)


def _equation_says(answer: Node, gold: Relation, tolerance: Tolerance) -> bool:
    """A value for a reference such as x = 5 or 0.56 = 56\\%: one of its sides that is no name."""
    first, *rest = gold.sides
    if _is_name(first):
        candidates = rest
    elif all(real_value(_bare(side)) is not None for side in gold.sides):
        candidates = [first, *rest]
    else:
        return False
    return any(same(answer, parse(side), tolerance) for side in candidates)


def _is_name(side: str) -> bool:
    return bool(_NAME.fullmatch(side) or _DERIVATIVE.fullmatch(side)) and real_value(side) is None


def _same_equation(answer: Relation, gold: Relation, tolerance: Tolerance) -> bool:
    if not set(answer.operators) <= {"=", r"\approx"}:
        return False
    name, gold_name = answer.sides[0], gold.sides[0]
    answer = _with_argument_of(gold_name, answer)
    if _is_name(name) and _is_name(gold_name) and _names_agree(name, gold_name):
        value = parse(answer.sides[-1])
        chain = list(answer.sides[1:])
        if any(same(value, parse(side), tolerance) for side in gold.sides[1:]):
            return _chain_equals(chain, answer.operators[1:], value, tolerance)
    if len(answer.sides) != 2 or len(gold.sides) != 2 or r"\approx" in answer.operators:
        return False
    try:
        return math_numeric.proportional(answer.sides, gold.sides, positive=False)
    except Unreadable:
        sides = [normalise(side) for side in answer.sides]
        golds = [normalise(side) for side in gold.sides]
        return sides in (golds, golds[::-1])


def _with_argument_of(gold_name: str, answer: Relation) -> Relation:
    """f(n) = n + 1 written as f(x) = x + 1, where that is how the reference calls the argument."""
    ours, golds = (_ARGUMENT.fullmatch(text) for text in (answer.sides[0], gold_name))
    if not ours or not golds or ours[1] == golds[1]:
        return answer
    renamed = [re.sub(rf"(?<![A-Za-z\\]){ours[1]}(?![A-Za-z])", golds[1], s) for s in answer.sides]
    return Relation(tuple(renamed), answer.operators)


def _names_agree(name: str, gold: str) -> bool:
    """y and f(x) may name the same; x and y, or AB and CD, are two things."""
    name, gold = (re.sub(r"[\s{}]", "", text) for text in (name, gold))
    if name == gold:
        return True
    return "(" in name + gold and not (len(name) > 1 and len(gold) > 1 and "(" not in name)


def _same_inequality(answer: Node, gold: Relation) -> bool:
    """In several variables: link by link, in either direction, up to a positive factor."""
    if not isinstance(answer, Relation) or len(answer.operators) != len(gold.operators):
        return False
    backwards = Relation(answer.sides[::-1], tuple(map(flip, answer.operators[::-1])))
    return any(_same_links(reading, gold) for reading in (answer, backwards))


def _same_links(answer: Relation, gold: Relation) -> bool:
    if answer.operators != gold.operators:
        return False
    positive = bool(set(gold.operators) & _INEQUALITIES)
    try:
        return all(
            math_numeric.proportional(
                answer.sides[i : i + 2], gold.sides[i : i + 2], positive=positive
            )
            for i in range(len(gold.operators))
        )
    except Unreadable:
        return [normalise(s) for s in answer.sides] == [normalise(s) for s in gold.sides]
