"""The one evaluator: in the training loop and in `python -m experiments.evaluate`."""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from transformers import PreTrainedTokenizerBase

from riskpo_jax.data.problem import Problem
from riskpo_jax.evaluation.responses import Response, is_plain, result_of
from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.rewards.grader import Grader
from riskpo_jax.rewards.grading import PendingOutcomes, refuse_all_errors, submit_groups
from riskpo_jax.rollout.sampler import Sampler, decode_responses
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.types import Prompts, Rollout


@dataclass(frozen=True)
class EvalSet:
    """Evaluation problems and the host arrays of their prompts, row i that of problem i."""

    name: str
    problems: Sequence[Problem]
    prompts: Prompts


@dataclass(frozen=True)
class Evaluator:
    """How a policy is asked and graded.

    Attributes:
      samples: S, responses to every problem.
      batch_size: problems that are handed on together.
      key: the same for every evaluation; a response draws with what the key, the name of its set and its
        own number give. So a set's responses depend neither on the other sets nor on where an evaluation
        was cut off.
    """

    sampler: Sampler
    tokenizer: PreTrainedTokenizerBase
    grader: Grader
    sampling: SamplingParams
    samples: int
    batch_size: int
    key: jax.Array

    def evaluate(self, params: Any, eval_set: EvalSet, step: int) -> EvalResult:
        """Samples S responses to every problem and grades them.

        Raises:
          UserError: as `batches`.
        """
        responses = [group for batch in self.batches(params, eval_set) for group in batch]
        return self.result(eval_set, responses, step)

    def result(
        self, eval_set: EvalSet, responses: Sequence[Sequence[Response]], step: int
    ) -> EvalResult:
        """The evaluation that P x S responses of this evaluator make up."""
        plain = is_plain(self.sampling)
        return result_of(eval_set.name, eval_set.problems, responses, step=step, plain=plain)

    def batches(
        self, params: Any, eval_set: EvalSet, done: int = 0
    ) -> Iterator[list[list[Response]]]:
        """The responses to each problem, batch after batch, without the first `done` problems.

        What is complete is graded while the rest, and the next batch, is sampled.

        Args:
          done: a multiple of `batch_size`.

        Raises:
          UserError: the reward returns something else than an outcome, or fails on the whole first batch
            (later on, errors are counted: the responses can be graded again).
        """
        pending: list[_Submitted] = []
        for start in range(done, len(eval_set.problems), self.batch_size):
            submitted = list(self._submit_batch(params, eval_set, start))
            if pending:
                yield _in_order(pending)
            if start == 0:
                refuse_all_errors([group for part in submitted for group in part.verdicts.result()])
            pending = submitted
        if pending:
            yield _in_order(pending)

    def _submit_batch(self, params: Any, eval_set: EvalSet, start: int) -> Iterator[_Submitted]:
        """The responses to the problems of a batch as they are completed."""
        batch = slice(start, start + self.batch_size)
        prompts = Prompts(eval_set.prompts.tokens[batch], eval_set.prompts.lengths[batch])
        problems = eval_set.problems[batch]
        set_key = jax.random.fold_in(self.key, zlib.crc32(eval_set.name.encode()))
        first = start * self.samples
        sampled = self.sampler.stream(
            params, set_key, prompts, self.samples, self.sampling, first=first
        )
        for questions, rollout in sampled:
            texts = decode_responses(self.tokenizer, rollout.tokens, rollout.lengths)
            verdicts = submit_groups(self.grader, [problems[q] for q in questions], texts)
            yield _Submitted(questions, texts, rollout, verdicts)


@dataclass(frozen=True)
class _Submitted:
    """Some questions' responses on the host, whose verdicts are on the way."""

    questions: list[int]
    texts: list[str]
    rollout: Rollout
    verdicts: PendingOutcomes

    def responses(self) -> list[list[Response]]:
        """Waits for the verdicts: the responses to each problem."""
        groups = self.verdicts.result()
        flat = [
            Response(text, int(length), bool(truncated), float(logprob), outcome)
            for text, length, truncated, logprob, outcome in zip(
                self.texts,
                self.rollout.lengths,
                self.rollout.truncated,
                self.rollout.logprobs.sum(axis=1, dtype=np.float64),
                itertools.chain(*groups),
                strict=True,
            )
        ]
        samples = len(groups[0])
        return [flat[start : start + samples] for start in range(0, len(flat), samples)]


def _in_order(parts: Sequence[_Submitted]) -> list[list[Response]]:
    """The responses to each problem of a batch, which was completed part by part."""
    groups = [pair for part in parts for pair in zip(part.questions, part.responses(), strict=True)]
    return [responses for _, responses in sorted(groups, key=lambda pair: pair[0])]
