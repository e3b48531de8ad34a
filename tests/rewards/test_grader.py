"""Graders of plain functions, and the way of each problem to its own."""

from concurrent.futures import Future

import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.grader import FunctionGrader, RoutedGrader
from riskpo_jax.rewards.outcome import Kind, Outcome, verdict


def problem(name: str, reward: str = "") -> Problem:
    return Problem(name, "?", name, "d", reward=reward)


class Late:
    """Answers when told to, with what it was asked."""

    def __init__(self, label: str):
        self.label, self.asked, self.closed = label, [], False

    def submit(self, responses, problems):
        future = Future()
        self.asked.append((future, list(responses)))
        return future

    def answer(self, batch: int = 0):
        future, responses = self.asked[batch]
        future.set_result([verdict(True, f"{self.label} {text}") for text in responses])

    def close(self):
        self.closed = True


def test_a_function_grades_in_order_and_guarded():
    def parity(response: str, problem: Problem) -> Outcome:
        return verdict(int(response) % 2 == 0, response)

    future = FunctionGrader(parity).submit(["2", "x", "3"], [problem("a")] * 3)
    assert [o.kind for o in future.result()] == [Kind.CORRECT, Kind.ERROR, Kind.WRONG]


def test_what_the_user_must_mend_comes_with_the_result():
    future = FunctionGrader(lambda *_: 1.0).submit(["2"], [problem("a")])
    with pytest.raises(UserError, match="must return"):
        future.result()


def test_problems_go_to_their_own_graders_and_outcomes_come_back_in_order():
    math, code = Late("math"), Late("code")
    grader = RoutedGrader({"math": math, "code": code})
    problems = [problem("0", "math"), problem("1", "code"), problem("2", "math")]
    first = grader.submit(["a", "b", "c"], problems)
    second = grader.submit(["d"], [problem("3", "code")])
    assert math.asked[0][1] == ["a", "c"] and code.asked[0][1] == ["b"]
    code.answer(1)
    assert [o.answer for o in second.result(timeout=0)] == ["code d"]  # not held up by the first
    code.answer(0)
    assert not first.done()
    math.answer(0)
    assert [o.answer for o in first.result(timeout=0)] == ["math a", "code b", "math c"]
    assert grader.submit([], []).result(timeout=0) == []
    grader.close()
    assert math.closed and code.closed


def test_a_part_that_fails_fails_the_whole():
    math, code = Late("math"), Late("code")
    whole = RoutedGrader({"math": math, "code": code}).submit(
        ["a", "b"], [problem("0", "math"), problem("1", "code")]
    )
    math.asked[0][0].set_exception(UserError("mend it"))
    code.answer()
    with pytest.raises(UserError, match="mend it"):
        whole.result(timeout=0)
