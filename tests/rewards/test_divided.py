"""Grading divided over processes, which are threads of this one here."""

import threading
from collections import Counter
from concurrent.futures import Future

import pytest

from riskpo_jax import processes
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.rewards.divided import DividedGrader, divided
from riskpo_jax.rewards.grader import FunctionGrader
from riskpo_jax.rewards.outcome import Kind, Outcome

SIZES = (6, 1, 0, 1, 5, 7)  # of batches, among them some that do not divide


def outcome_of(response: str) -> Outcome:
    kinds = list(Kind)
    return Outcome(kinds[len(response) % len(kinds)], len(response) / 3, response[:2])


def batches() -> list[tuple[list[str], list[Problem]]]:
    """Each with responses and problems of its own."""
    problem = Problem("p", "", "", "")
    return [([f"{b}{'ä' * row}" for row in range(n)], [problem] * n) for b, n in enumerate(SIZES)]


@pytest.fixture
def graders(monkeypatch):
    """graders(rewards): a DividedGrader of each of P processes, connected through memory."""

    class Channel:
        def __init__(self, _):
            self.index = processes.index()

        def exchange(self, value):
            sent[self.index] = value
            meet.wait()
            everyone = list(sent)
            meet.wait()
            return everyone

    def graders(rewards):
        nonlocal sent, meet
        sent, meet = [None] * len(rewards), threading.Barrier(len(rewards), timeout=10)
        monkeypatch.setattr(processes, "count", lambda: len(rewards))
        monkeypatch.setattr(processes, "Channel", Channel)
        for index, reward in enumerate(rewards):
            monkeypatch.setattr(processes, "index", lambda index=index: index)
            made.append(DividedGrader(FunctionGrader(reward)))
        return made

    sent, meet, made = [], None, []
    yield graders
    for grader in made:
        grader.close()


@pytest.mark.parametrize("P", [2, 3, 8])
def test_every_process_gets_what_one_grader_says_and_no_row_is_graded_twice(graders, P):
    graded = [Counter() for _ in range(P)]

    def reward(own: Counter):
        def grade(response, problem):
            own[response] += 1
            return outcome_of(response)

        return grade

    parts = graders([reward(own) for own in graded])
    promised = [[grader.submit(*batch) for batch in batches()] for grader in parts]
    expected = [[outcome_of(response) for response in responses] for responses, _ in batches()]
    for futures in promised:
        assert [future.result(timeout=10) for future in futures] == expected
    everything = Counter(response for responses, _ in batches() for response in responses)
    assert sum(graded, Counter()) == everything
    for responses, _ in batches():  # equal shares
        shares = [sum(own[response] for response in responses) for own in graded]
        assert max(shares) - min(shares) <= 1


def test_the_responses_to_a_problem_stay_together_and_single_ones_go_round(graders):
    graded: list[list[str]] = [[], []]

    def reward(own: list[str]):
        return lambda response, problem: own.append(response) or outcome_of(response)

    parts = graders([reward(own) for own in graded])
    for responses in (list("abcd"), ["e"], ["f"]):
        for grader in parts:
            grader.submit(responses, [Problem("p", "", "", "")] * len(responses))
    assert graded == [["a", "b", "f"], ["c", "d", "e"]]


def test_after_a_failure_nothing_more_is_exchanged(graders):
    bad = graders([lambda response, problem: "correct", lambda *_: outcome_of("")])[0]
    futures: list[Future] = [bad.submit(*batch) for batch in batches()]
    for future in futures:
        with pytest.raises(UserError, match="the reward returned 'correct'"):
            future.result(timeout=10)


def test_one_process_grades_by_itself():
    grader = FunctionGrader(lambda *_: outcome_of(""))
    assert divided(grader) is grader
