"""Training on some of the problems."""

import pytest

from riskpo_jax.data.filters import keep
from riskpo_jax.data.mixture import Mixture
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError

LEVELS = ["1", "3", "", "5", "3"]
PROBLEMS = [Problem(str(i), "x" * i, "", "d", level) for i, level in enumerate(LEVELS)]


def ids(source):
    return "".join(source[i].id for i in range(len(source)))


def test_by_level_by_length_and_by_both():
    assert keep(PROBLEMS) is PROBLEMS
    assert ids(keep(PROBLEMS, ("3", "5"))) == "134"
    assert ids(keep(PROBLEMS, (), 2)) == "012"
    assert ids(keep(PROBLEMS, ("3", "5"), 3)) == "13"


def test_a_weighted_mixture_stays_one():
    kept = keep(Mixture((PROBLEMS, PROBLEMS[:2]), (1.0, 2.0)), ("3",))
    assert isinstance(kept, Mixture) and kept.sizes == (2, 1) and kept.weights == (1.0, 2.0)


def test_when_nothing_is_left_the_levels_are_named():
    with pytest.raises(UserError) as caught:
        keep(PROBLEMS, ("7",), 9)
    message = str(caught.value)
    assert "--data.keep_levels=7 and --data.max_problem_chars=9 leave none of the 5" in message
    assert message.endswith("levels are none (1), 1 (1), 3 (2), 5 (1)")
