"""Graded responses: what an evaluation is made of, and what its JSON lines hold."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.rewards.outcome import Kind, Outcome


@dataclass(frozen=True)
class Response:
    """One sampled answer and the verdict on it.

    Attributes:
      text: without special tokens; all that a grader sees.
      length: tokens, the end token included.
      truncated: no end token within the limit.
      logprob: nats, log-probability of the tokens summed, as the sampler reports it.
    """

    text: str
    length: int
    truncated: bool
    logprob: float
    outcome: Outcome


def lines_of(
    problems: Sequence[Problem], responses: Sequence[Sequence[Response]]
) -> list[dict[str, Any]]:
    """The JSON lines of the S responses to each problem, in the order of problems and samples."""
    return [
        {
            "id": problem.id,
            "sample": sample,
            "response": r.text,
            "length": r.length,
            "truncated": r.truncated,
            "logprob": r.logprob,
            "outcome": str(r.outcome.kind),
            "score": r.outcome.score,
            "answer": r.outcome.answer,
        }
        for problem, group in zip(problems, responses, strict=True)
        for sample, r in enumerate(group)
    ]


def response_of(row: Mapping[str, Any]) -> Response:
    """The inverse of `lines_of`, for one line. Raises KeyError, TypeError or ValueError for another's."""
    return Response(
        text=row["response"],
        length=row["length"],
        truncated=row["truncated"],
        logprob=row["logprob"],
        outcome=Outcome(Kind(row["outcome"]), row["score"], row["answer"]),
    )


def responses_by_problem(
    rows: Sequence[Mapping[str, Any]], samples: int, place: str
) -> list[tuple[str, list[Response]]]:
    """(problem id, its S responses) of each problem, from the lines of a file in their order.

    place: the file, to name it.

    Raises:
      UserError: a line that is no response, or is not the one that comes next.
    """
    grouped: list[tuple[str, list[Response]]] = []
    for number, row in enumerate(rows):
        try:
            problem_id, sample, response = row["id"], row["sample"], response_of(row)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"{place}:{number + 1}: not a response of an evaluation ({error!r})"
            ) from error
        if sample == 0:
            grouped.append((problem_id, []))
        if sample != number % samples or problem_id != grouped[-1][0]:
            raise UserError(
                f"{place}:{number + 1}: sample {sample} of {problem_id} is out of order: the file was "
                "changed, evaluate into another folder"
            )
        grouped[-1][1].append(response)
    if len(rows) % samples:
        raise UserError(f"{place}: {grouped[-1][0]} has less than {samples} responses")
    return grouped


class Draw(Protocol):
    """How responses were drawn: `SamplingParams`, or the settings of an evaluation."""

    @property
    def temperature(self) -> float: ...
    @property
    def top_k(self) -> int: ...
    @property
    def top_p(self) -> float: ...


def is_plain(draw: Draw) -> bool:
    """Whether responses came from the policy's distribution, neither greedily nor from a part of it."""
    return draw.temperature > 0 and not draw.top_k and draw.top_p == 1


def result_of(
    dataset: str,
    problems: Sequence[Problem],
    responses: Iterable[Sequence[Response]],
    *,
    step: int,
    plain: bool,
) -> EvalResult:
    """The evaluation that P problems and their S responses each make up.

    plain: whether the draw `is_plain`. The sampled -log p is then an unbiased estimate of the policy's
    entropy; otherwise the entropy is NaN.
    """
    responses_PxS = [list(group) for group in responses]
    values = {
        name: np.array([[getattr(r, name) for r in group] for group in responses_PxS])
        for name in ("length", "truncated", "logprob")
    }
    outcomes_PxS = [[r.outcome for r in group] for group in responses_PxS]
    return EvalResult(
        dataset=dataset,
        step=step,
        problem_ids=[problem.id for problem in problems],
        levels=[problem.level for problem in problems],
        correct_PxS=np.array([[outcome.correct for outcome in group] for group in outcomes_PxS]),
        answers=[[outcome.answer for outcome in group] for group in outcomes_PxS],
        outcomes=[[str(outcome.kind) for outcome in group] for group in outcomes_PxS],
        lengths_PxS=values["length"],
        truncated_PxS=values["truncated"],
        entropy_PxS=values["logprob"] * (-1.0 if plain else np.nan),
    )
