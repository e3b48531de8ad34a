"""Verdicts given again: on the same texts, for the same problems, and what they changed."""

import dataclasses

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.regrade import changes, describe, find_problems, regraded
from riskpo_jax.evaluation.responses import Response
from riskpo_jax.rewards.grader import FunctionGrader
from riskpo_jax.rewards.outcome import NO_ANSWER, verdict

PROBLEMS = [Problem(f"p{i}", "?", str(i), "d") for i in range(5)]
RESPONSES = [
    [Response(text, 1, False, -1.0, NO_ANSWER) for text in (str(i), "7")] for i in range(5)
]


def equals(response, problem):
    return verdict(response == problem.answer, response)


@pytest.mark.parametrize("batch_size", [1, 2, 5, 9])
def test_only_the_verdicts_are_new(batch_size):
    grader = FunctionGrader(equals)
    batches = list(regraded(grader, PROBLEMS, RESPONSES, batch_size))
    assert [len(batch) for batch in batches][:-1] == [batch_size] * (len(batches) - 1)
    after = [group for batch in batches for group in batch]
    assert [[r.outcome.correct for r in group] for group in after] == [[True, False]] * 5
    as_before = [[dataclasses.replace(r, outcome=NO_ANSWER) for r in group] for group in after]
    assert as_before == RESPONSES


def test_changes_are_counted_from_what_to_what():
    (after,) = regraded(FunctionGrader(equals), PROBLEMS, RESPONSES, 5)
    counts = changes(RESPONSES, after)
    assert counts == {("no_answer", "correct"): 5, ("no_answer", "wrong"): 5}
    (less,) = regraded(FunctionGrader(lambda *_: NO_ANSWER), PROBLEMS, after, 5)
    mixed = changes(after, [*less[:1], *after[1:]])
    assert mixed == {("correct", "no_answer"): 1, ("wrong", "no_answer"): 1}
    assert describe("d", mixed, 10) == (
        "d: 2 of 10 verdicts changed: correct to no_answer 1, wrong to no_answer 1"
    )
    assert describe("d", changes(after, after), 10) == "d: 0 of 10 verdicts changed"


def test_problems_are_found_by_their_ids():
    assert find_problems(PROBLEMS, ["p3", "p0"], "d") == [PROBLEMS[3], PROBLEMS[0]]
    with pytest.raises(UserError, match="d: 2 of 3 problems .* the first is 'q': name the data"):
        find_problems(PROBLEMS, ["p3", "q", "r"], "d")
    with pytest.raises(UserError, match="two problems have the id 'p0'"):
        find_problems([*PROBLEMS, PROBLEMS[0]], ["p3"], "d")
