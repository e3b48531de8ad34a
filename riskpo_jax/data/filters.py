"""Which of the problems to train on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from riskpo_jax.data.mixture import select
from riskpo_jax.data.problem import Source
from riskpo_jax.errors import UserError


def keep(source: Source, levels: Sequence[str] = (), max_chars: int = 0) -> Source:
    """The problems of `levels` (all when empty) with at most `max_chars` characters (any at 0).

    Raises UserError when none is left, naming the levels that there are.
    """
    if not levels and not max_chars:
        return source
    problems = [source[i] for i in range(len(source))]
    kept = [
        i
        for i, problem in enumerate(problems)
        if (not levels or problem.level in levels)
        and (not max_chars or len(problem.text) <= max_chars)
    ]
    if not kept:
        counts = sorted(Counter(problem.level for problem in problems).items())
        found = ", ".join(f"{level or 'none'} ({count})" for level, count in counts)
        raise UserError(
            f"--data.keep_levels={','.join(levels)} and --data.max_problem_chars={max_chars} leave "
            f"none of the {len(problems)} training problems, whose levels are {found}"
        )
    return select(source, kept)
