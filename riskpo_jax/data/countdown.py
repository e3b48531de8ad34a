"""Countdown: reach a target from given numbers, each used exactly once, by + - * /.

Every problem is drawn backwards from a solution, so it is solvable. Whether it belongs to training
or to evaluation is a property of the problem itself (`split_of`), so the splits are disjoint
whatever the seeds.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError

NUMBERS_PER_LEVEL = {"easy": 3, "medium": 4, "hard": 5}
SPLITS = ("train", "eval")
PROMPT = (
    "Using the numbers {numbers} exactly once each and + - * / and parentheses, write an "
    "expression that equals {target}. Answer with the expression only."
)
_MAX_DRAWS = 20_000  # of one problem, before the ranges are called impossible


@dataclass(frozen=True, slots=True)
class Expression:
    """A value and how to write it: a sum (or product) of `terms` without (or over) the `inverses`.

    Nested sums are flattened, and so are products: a-(b-c) is held as a+c-b and a/(b*c) as a/b/c.
    That writes an expression with the fewest parentheses.
    """

    value: int
    operator: str  # "+" a sum, "*" a product, "" a number
    terms: tuple[str, ...]
    inverses: tuple[str, ...] = ()

    def __str__(self) -> str:
        inverse = {"+": "-", "*": "/", "": ""}[self.operator]
        return self.operator.join(self.terms) + "".join(inverse + text for text in self.inverses)

    def operands(self, operator: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The terms and inverses which this expression contributes to a larger sum or product."""
        if self.operator in (operator, ""):
            return self.terms, self.inverses
        return (f"({self})" if self.operator == "+" else str(self),), ()


def number(value: int) -> Expression:
    return Expression(value, "", (str(value),))


def combine(left: Expression, symbol: str, right: Expression) -> Expression:
    """`left symbol right`; a division must be exact."""
    operator = "+" if symbol in "+-" else "*"
    left_terms, left_inverses = left.operands(operator)
    right_terms, right_inverses = right.operands(operator)
    if symbol in "-/":
        right_terms, right_inverses = right_inverses, right_terms
    value = _apply(left.value, symbol, right.value)
    return Expression(value, operator, left_terms + right_terms, left_inverses + right_inverses)


Step = tuple[int, str, int]  # left position, operator, right position in the growing list of values


def draw_steps(numbers: Sequence[int], rng: random.Random) -> tuple[int, list[Step]]:
    """Combine the numbers in random order by random operators: the value reached, and how.

    Every intermediate value is a positive integer: a difference is taken only when it is positive,
    a quotient only when it is exact, and what is possible is equally likely.
    """
    values = list(numbers)
    steps = []
    unused = list(range(len(values)))
    while len(unused) > 1:
        left = unused.pop(int(rng.random() * len(unused)))
        right = unused.pop(int(rng.random() * len(unused)))
        a, b = values[left], values[right]
        possible = "+*" + "-" * (a > b) + "/" * (a % b == 0)
        symbol = possible[int(rng.random() * len(possible))]
        unused.append(len(values))
        values.append(_apply(a, symbol, b))
        steps.append((left, symbol, right))
    return values[-1], steps


def write(numbers: Sequence[int], steps: Sequence[Step]) -> Expression:
    """The expression that the steps build from the numbers."""
    expressions = [number(value) for value in numbers]
    for left, symbol, right in steps:
        expressions.append(combine(expressions[left], symbol, expressions[right]))
    return expressions[-1]


def _apply(a: int, symbol: str, b: int) -> int:
    if symbol == "+":
        return a + b
    if symbol == "-":
        return a - b
    return a * b if symbol == "*" else a // b


def split_of(numbers: Sequence[int], target: int) -> str:
    """The split of a problem, in whatever order its numbers come: "eval" for a tenth of all."""
    key = f"{' '.join(map(str, sorted(numbers)))}={target}"
    hashed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big")
    return "eval" if hashed % 10 == 0 else "train"


class CountdownSource:
    """Countdown problems of one split.

    A training problem i is a function of (seed, i) alone, whatever `size` is. The problems of an
    evaluation source are distinct: number i is drawn again while an earlier one equals it. `levels`
    take turns. `metadata` has `numbers` ("3 7 25"), `target` ("46") and `solution` (one valid
    expression, no spaces).

    Raises UserError for settings that are out of range or admit too few problems.
    """

    def __init__(
        self,
        seed: int,
        split: str,
        size: int,
        levels: Sequence[str] = ("easy", "medium", "hard"),
        min_number: int = 1,
        max_number: int = 20,
        min_target: int = 1,
        max_target: int = 100,
    ):
        if split not in SPLITS:
            raise UserError(f"countdown: unknown split {split!r}, use one of {', '.join(SPLITS)}")
        unknown = [level for level in levels if level not in NUMBERS_PER_LEVEL]
        if unknown or not levels:
            raise UserError(
                f"countdown: levels {list(levels)}: choose from {', '.join(NUMBERS_PER_LEVEL)}"
            )
        for name, low, high in (
            ("number", min_number, max_number),
            ("target", min_target, max_target),
        ):
            if not 1 <= low <= high:
                raise UserError(
                    f"countdown: 1 <= min_{name} <= max_{name} does not hold for {low}, {high}"
                )
        if size < 1:
            raise UserError(
                f"countdown: the size of the {split} set is {size}, it must be at least 1"
            )
        self.seed, self.split, self.size, self.levels = seed, split, size, tuple(levels)
        self._numbers, self._targets = (min_number, max_number), (min_target, max_target)
        self._distinct = self._draw_distinct() if split == "eval" else None

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < self.size:
            raise IndexError(index)
        return self._draw(index) if self._distinct is None else self._distinct[index]

    def _draw_distinct(self) -> list[Problem]:
        seen: set[tuple[str, ...]] = set()
        problems = []
        for index in range(self.size):
            problem = self._draw(index, avoid=seen)
            seen.add(_key(problem.metadata["numbers"].split(), problem.answer))
            problems.append(problem)
        return problems

    def _draw(self, index: int, avoid: Collection[tuple[str, ...]] = frozenset()) -> Problem:
        level = self.levels[index % len(self.levels)]
        entropy = np.random.SeedSequence([self.seed, SPLITS.index(self.split), index])
        rng = random.Random(entropy.generate_state(4).tobytes())
        low, high = self._numbers
        for _ in range(_MAX_DRAWS):
            numbers = [rng.randint(low, high) for _ in range(NUMBERS_PER_LEVEL[level])]
            target, steps = draw_steps(numbers, rng)
            in_range = self._targets[0] <= target <= self._targets[1]
            if not in_range or split_of(numbers, target) != self.split:
                continue
            if _key(map(str, numbers), str(target)) not in avoid:
                return self._problem(index, level, numbers, write(numbers, steps))
        raise UserError(
            f"countdown: no other {level} {self.split} problem with numbers in {self._numbers} and "
            f"target in {self._targets} after {index} problems: widen the ranges or ask for fewer"
        )

    def _problem(self, index: int, level: str, numbers: list[int], solution: Expression) -> Problem:
        target = str(solution.value)
        return Problem(
            id=f"countdown-{self.split}-{self.seed}-{index}",
            text=PROMPT.format(numbers=", ".join(map(str, numbers)), target=target),
            answer=target,
            dataset="countdown",
            level=level,
            metadata={
                "numbers": " ".join(map(str, numbers)),
                "target": target,
                "solution": str(solution),
            },
            reward="countdown",
        )


def _key(numbers: Iterable[str], target: str) -> tuple[str, ...]:
    return (*sorted(numbers), target)
