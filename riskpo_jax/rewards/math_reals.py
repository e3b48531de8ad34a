"""Sets of real numbers: intervals, unions and inequalities in one variable."""

from __future__ import annotations

import re

import sympy

from riskpo_jax.rewards.math_answer import (
    Group,
    Node,
    Quantity,
    Relation,
    Several,
    Union,
    Words,
    parse,
)
from riskpo_jax.rewards.math_quantities import real_value
from riskpo_jax.rewards.math_read import Unreadable

_FLIPPED = {"<": ">", ">": "<", r"\le": r"\ge", r"\ge": r"\le"}
_ALL_REALS = {r"\mathbb{R}", "R", r"\mathbb R"}


def same_reals(answer: Node, gold: Node) -> bool:
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
    value = real_value(node.text)
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
        result = result.intersect(_half_line(operator if left else flip(operator), bound))
    return result


def flip(operator: str) -> str:
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
