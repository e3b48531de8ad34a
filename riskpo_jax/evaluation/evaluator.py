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
from riskpo_jax.rollout.sampler import Sampler, decode_responses, one_ahead
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
      batch_size: problems in one call of the sampler, whose KV cache is that of batch_size x S sequences.
      key: the same for every evaluation; a batch draws with what the key, the name of its set and the
        number of its first problem give. So a set's responses depend neither on the other sets nor on
        where an evaluation was cut off.
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

        A batch is graded while the next is sampled.

        Args:
          done: a multiple of `batch_size`.

        Raises:
          UserError: the reward returns something else than an outcome, or fails on the whole first batch
            (later on, errors are counted: the responses can be graded again).
        """
        pending = None
        for start, rollout in self._rollouts(params, eval_set, done):
            problems = eval_set.problems[start : start + self.batch_size]
            submitted = self._submit(problems, rollout)
            if pending:
                yield pending.responses()
            if start == 0:
                refuse_all_errors(submitted.verdicts.result())
            pending = submitted
        if pending:
            yield pending.responses()

    def _rollouts(self, params: Any, eval_set: EvalSet, done: int) -> Iterator[tuple[int, Rollout]]:
        """The start of each batch and its rollout.

        The last batch is filled with repeated problems, so that one shape is compiled.
        """
        prompts, count = eval_set.prompts, len(eval_set.problems)
        set_key = jax.random.fold_in(self.key, zlib.crc32(eval_set.name.encode()))

        def batch(start: int) -> tuple[int, Rollout]:
            rows = np.arange(start, min(start + self.batch_size, count))
            filled = np.resize(rows, self.batch_size)
            placed = self.sampler.place(Prompts(prompts.tokens[filled], prompts.lengths[filled]))
            batch_key = jax.random.fold_in(set_key, start)
            return start, self.sampler(params, batch_key, placed, self.samples, self.sampling)

        return one_ahead(batch, range(done, count, self.batch_size))

    def _submit(self, problems: Sequence[Problem], rollout: Rollout) -> _Submitted:
        kept = len(problems) * self.samples
        rollout = jax.tree.map(lambda rows: rows[:kept], jax.device_get(rollout))
        texts = decode_responses(self.tokenizer, rollout.tokens, rollout.lengths)
        return _Submitted(texts, rollout, submit_groups(self.grader, problems, texts))


@dataclass(frozen=True)
class _Submitted:
    """A batch on the host whose verdicts are on the way."""

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
