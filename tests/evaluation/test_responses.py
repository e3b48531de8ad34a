"""Responses as lines of JSON and back, and the evaluation that they make up."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.responses import (
    Response,
    is_plain,
    lines_of,
    responses_by_problem,
    result_of,
)
from riskpo_jax.rewards.outcome import Kind, Outcome
from riskpo_jax.rollout.sampling import SamplingParams

RESPONSES = st.builds(
    Response,
    text=st.text(),
    length=st.integers(0, 10_000),
    truncated=st.booleans(),
    logprob=st.floats(-1e6, 0),
    outcome=st.builds(Outcome, st.sampled_from(Kind), st.floats(0, 1), st.text()),
)


def problem(name: str, level: str = "") -> Problem:
    return Problem(name, "?", "1", "d", level=level)


def response(kind: Kind = Kind.CORRECT, **changes) -> Response:
    values = {"text": "x", "length": 3, "truncated": False, "logprob": -1.5}
    return Response(**values | changes, outcome=Outcome(kind, float(kind is Kind.CORRECT), "1"))


@given(st.lists(st.lists(RESPONSES, min_size=2, max_size=2), max_size=4))
def test_lines_give_back_the_responses(groups):
    """Ids may repeat: the lines of a problem are those that stand together."""
    rows = lines_of([problem(f"p{i // 2}") for i in range(len(groups))], groups)
    read = [json.loads(json.dumps(row)) for row in rows]
    assert responses_by_problem(read, 2, "f") == [(f"p{i // 2}", g) for i, g in enumerate(groups)]


ROWS = lines_of([problem("a"), problem("b")], [[response()] * 2] * 2)


@pytest.mark.parametrize(
    ("rows", "complaint"),
    [
        ([{"id": "a"}], "f:1: not a response of an evaluation .KeyError"),
        ([*ROWS[:3], ROWS[3] | {"outcome": "perfect"}], "f:4: .*'perfect' is not a valid Kind"),
        (ROWS[1:], "f:1: sample 1 of a is out of order"),
        ([ROWS[0], ROWS[3]], "f:2: sample 1 of b is out of order"),
        ([*ROWS[:2], ROWS[3]], "f:3: sample 1 of b is out of order"),
        ([ROWS[0], ROWS[2]], "f:2: sample 0 of b is out of order"),
        (ROWS[:3], "f: b has less than 2 responses"),
    ],
)
def test_lines_that_are_not_what_comes_next(rows, complaint):
    with pytest.raises(UserError, match=complaint):
        responses_by_problem(rows, 2, "f")


def test_the_evaluation_of_responses():
    problems = [problem("a", "easy"), problem("b", "hard")]
    groups = [
        [response(), response(Kind.WRONG, length=5, logprob=-2.0)],
        [response(Kind.TIMEOUT), response(Kind.NO_ANSWER, truncated=True)],
    ]
    result = result_of("d", problems, groups, step=4, plain=True)
    assert (result.dataset, result.step, result.samples) == ("d", 4, 2)
    assert (result.problem_ids, result.levels) == (["a", "b"], ["easy", "hard"])
    np.testing.assert_array_equal(result.correct_PxS, [[True, False], [False, False]])
    np.testing.assert_array_equal(result.lengths_PxS, [[3, 5], [3, 3]])
    np.testing.assert_array_equal(result.truncated_PxS, [[False, False], [False, True]])
    np.testing.assert_array_equal(result.entropy_PxS, [[1.5, 2.0], [1.5, 1.5]])
    assert result.outcomes == [["correct", "wrong"], ["timeout", "no_answer"]]
    narrowed = result_of("d", problems, groups, step=4, plain=False)
    assert np.isnan(narrowed.entropy_PxS).all()


def test_what_is_a_plain_draw():
    draws = [
        SamplingParams(0.7),
        SamplingParams(0.0),
        SamplingParams(1.0, 5),
        SamplingParams(1, 0, 0.9),
    ]
    assert [is_plain(draw) for draw in draws] == [True, False, False, False]
