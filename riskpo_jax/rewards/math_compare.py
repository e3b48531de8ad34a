r"""Whether a final answer equals the reference: by structure first, by value within it.

The reference says what kind of thing is asked for, so the comparison is not symmetric: a unit, a percent
sign or a name ("x =") that the reference lacks may stand in the answer, and one that it has may be left
out; what contradicts it may not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import sympy

from riskpo_jax.rewards import math_numeric, math_units
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
from riskpo_jax.rewards.math_numeric import TooLarge, Unreadable
from riskpo_jax.rewards.math_text import normalise

ROUNDING = Fraction(1, 100)  # relative; how far "= 3.14" may be from what it is said to approximate


@dataclass(frozen=True)
class Tolerance:
    """How far a number may be from the reference; the larger of both counts. Zero: not at all."""

    relative: float = 0.0
    absolute: float = 0.0


EXACT = Tolerance()
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
_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_ALL_REALS = {r"\mathbb{R}", "R", r"\mathbb R"}


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
            return _named_coordinates(answer, gold, tolerance) or _same_reals(answer, gold)
        case Group(), Group():
            return _same_group(answer, gold, tolerance)
        case Matrix(), Matrix():
            return _same_matrix(answer, gold, tolerance)
        case Matrix(), Group(opening="(", closing=")"):
            return _same_column(gold, answer, tolerance)
        case (Union(), _) | (_, Union()):
            return _same_union(answer, gold, tolerance) or _same_reals(answer, gold)
        case Group(opening=r"\{", items=(single,)), _:
            return same(answer, single, tolerance)
        case _, Group(opening=r"\{", items=(single,)):
            return same(single, gold, tolerance)
        case Based(), Based():
            return _digits(answer) == _digits(gold) and answer.base == gold.base
        case Quantity(), Based():
            return answer.base == 10 and same(Quantity(answer.digits), gold, tolerance)
        case (Group(), Quantity() | Words()) | (Quantity() | Words(), Group()):
            return _same_reals(answer, gold)
        case (Words(), _) | (_, Words()):
            return _same_words(answer, gold)
        case Quantity(), Quantity():
            return _same_quantity(answer, gold, tolerance)
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


# Numbers and expressions


def _same_quantity(answer: Quantity, gold: Quantity, tolerance: Tolerance) -> bool:
    if answer.written and not gold.unit and _equal(answer.written, gold.text, Fraction(1), EXACT):
        return True
    if answer.written and _has_variables(gold.text):
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
    value = _real(gold.text)
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
    exact = math_numeric.as_fraction(answer), math_numeric.as_fraction(gold)
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
    values = _real(answer), _real(gold)
    return None not in values and _near(*values, tolerance)


def _near(answer, gold, tolerance: Tolerance) -> bool:
    if answer == gold:
        return True
    allowed = max(Fraction(tolerance.relative) * abs(Fraction(gold)), Fraction(tolerance.absolute))
    return bool(allowed) and abs(Fraction(answer) - Fraction(gold)) <= allowed


def _real(text: str) -> Fraction | None:
    """The real value of an expression without variables, to 30 digits; None for others."""
    exact = math_numeric.as_fraction(text)
    if exact is not None:
        return exact
    try:
        number = math_numeric.value(text)
    except Unreadable:
        return None
    if number is None or not mpmath.isfinite(number):
        return None
    return Fraction(mpmath.nstr(number, 30, strip_zeros=False))


# Relations


def _is_label(side: str, gold_has_variables: bool) -> bool:
    """Whether the left side of "side = value" only names what is asked for."""
    if not side or _REASONING.search(side) or _real(side) is not None:
        return False
    if _NAME.fullmatch(side) or _DERIVATIVE.fullmatch(side) or _TUPLE_OF_NAMES.fullmatch(side):
        return True
    if side.startswith(r"\text{"):
        return True
    return not gold_has_variables and bool(re.search(r"(?<![\\A-Za-z])[A-Za-z]", side))


def _variables(gold: Node) -> bool:
    return isinstance(gold, Quantity) and _has_variables(gold.text)


def _has_variables(text: str) -> bool:
    try:
        return bool(math_numeric.symbols(text))
    except Unreadable:
        return True


def _relation_gives(answer: Relation, gold: Node, tolerance: Tolerance) -> bool:
    """Whether "x = 2 + 3 = 5" gives `gold`: every side that is no name equals it."""
    if not set(answer.operators) <= {"=", r"\approx", r"\in"}:
        return _same_reals(answer, gold)
    sides, variables = list(answer.sides), _variables(gold)
    if not all(sides):
        return False
    if _is_label(sides[0], variables):
        sides, operators = sides[1:], answer.operators[1:]
    elif len(sides) == 2 and _NAME.fullmatch(sides[1]) and _real(sides[0]) is not None:
        sides, operators = sides[:1], ()
    else:
        operators = answer.operators
    if r"\in" in operators:
        return False
    return _chain_equals(sides, operators, gold, tolerance)


def _chain_equals(
    sides: list[str], operators: tuple[str, ...], gold: Node, tolerance: Tolerance
) -> bool:
    """Between approximations, all sides of one run of equations equal `gold`, and the rest is near."""
    runs: list[list[str]] = [[sides[0]]]
    for operator, side in zip(operators, sides[1:], strict=True):
        if operator == "=":
            runs[-1].append(side)
        else:
            runs.append([side])
    nodes = [[parse(side) for side in run] for run in runs]
    equal = [_all_equal(run, gold, tolerance) for run in nodes]
    if not any(equal):
        return False
    if len(runs) == 1:
        return True
    values = [_real(_bare(side)) for run in runs for side in run]
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
    return _same_reals(answer, gold) or _same_inequality(answer, gold)


def _equation_says(answer: Node, gold: Relation, tolerance: Tolerance) -> bool:
    """A value for a reference such as x = 5 or 0.56 = 56\\%: one of its sides that is no name."""
    first, *rest = gold.sides
    if _is_name(first):
        candidates = rest
    elif all(_real(_bare(side)) is not None for side in gold.sides):
        candidates = [first, *rest]
    else:
        return False
    return any(same(answer, parse(side), tolerance) for side in candidates)


def _is_name(side: str) -> bool:
    return bool(_NAME.fullmatch(side) or _DERIVATIVE.fullmatch(side)) and _real(side) is None


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


# Sets of real numbers


def _same_reals(answer: Node, gold: Node) -> bool:
    """Whether intervals, unions and inequalities describe the same set of real numbers."""
    try:
        sets = _reals(answer), _reals(gold)
        return sets[0] == sets[1]
    except Unreadable:
        return False


def _reals(node: Node) -> sympy.Set:
    """Raises Unreadable for what is no set of real numbers."""
    match node:
        case Group(opening=r"\{", items=items):
            return sympy.FiniteSet(*[_endpoint(item) for item in items])
        case Group(opening="(" | "[", closing=")" | "]", items=(low, high)):
            return sympy.Interval(
                _endpoint(low), _endpoint(high), node.opening == "(", node.closing == ")"
            )
        case Union(parts=parts, operators=operators):
            result = _reals(parts[0])
            for operator, part in zip(operators, parts[1:], strict=True):
                result = _SET_OPERATIONS[operator](result, _reals(part))
            return result
        case Several(items=items, word="and" | "or" as word) if all(
            isinstance(item, Relation) for item in items
        ):
            operation = _SET_OPERATIONS[r"\cup" if word == "or" else r"\cap"]
            result = _reals(items[0])
            for item in items[1:]:
                result = operation(result, _reals(item))
            return result
        case Relation():
            return _inequality_reals(node)
        case Quantity(text=text) if text.replace(" ", "") in _ALL_REALS:
            return sympy.S.Reals
        case Words(text=text) if re.fullmatch(r"all real (?:numbers|values)(?: x)?", text.lower()):
            return sympy.S.Reals
    raise Unreadable(str(node))


_SET_OPERATIONS = {
    r"\cup": sympy.Union,
    r"\cap": sympy.Intersection,
    r"\setminus": sympy.Complement,
}


def _endpoint(node: Node) -> sympy.Expr:
    if not isinstance(node, Quantity):
        raise Unreadable(str(node))
    text = node.text.replace(" ", "")
    if text in (r"\infty", r"+\infty", r"-\infty"):
        return -sympy.oo if text[0] == "-" else sympy.oo
    value = _real(node.text)
    if value is None:
        raise Unreadable(node.text)
    return sympy.Rational(value.numerator, value.denominator)


def _inequality_reals(node: Relation) -> sympy.Set:
    """The set of x with 1 < x <= 2, x > 3, x != 4 or x in (1, 2)."""
    sides, operators = node.sides, node.operators
    if operators == (r"\in",):
        return _reals(parse(sides[1]))
    names = [i for i, side in enumerate(sides) if re.fullmatch(r"[A-Za-z](?:\([a-z]\))?", side)]
    if len(names) != 1:
        raise Unreadable(str(node))
    result, name = sympy.S.Reals, names[0]
    for i, operator in enumerate(operators):
        left, right = i == name, i + 1 == name
        if not (left or right):
            raise Unreadable(str(node))
        bound = _endpoint(parse(sides[i + 1] if left else sides[i]))
        result = result.intersect(_half_line(operator if left else _flip(operator), bound))
    return result


def _flip(operator: str) -> str:
    return _FLIPPED.get(operator, operator)


def _half_line(operator: str, bound: sympy.Expr) -> sympy.Set:
    match operator:
        case "<" | r"\le":
            return sympy.Interval(-sympy.oo, bound, True, operator == "<")
        case ">" | r"\ge":
            return sympy.Interval(bound, sympy.oo, operator == ">", True)
        case r"\ne":
            return sympy.Complement(sympy.S.Reals, sympy.FiniteSet(bound))
        case "=":
            return sympy.FiniteSet(bound)
    raise Unreadable(operator)


def _same_inequality(answer: Node, gold: Relation) -> bool:
    """In several variables: link by link, in either direction, up to a positive factor."""
    if not isinstance(answer, Relation) or len(answer.operators) != len(gold.operators):
        return False
    backwards = Relation(answer.sides[::-1], tuple(map(_flip, answer.operators[::-1])))
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


__all__ = ["EXACT", "Tolerance", "TooLarge", "same"]
