"""The one evaluator: in the training loop and in `python -m experiments.evaluate`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from transformers import PreTrainedTokenizerBase

from riskpo_jax.data.problem import Problem
from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.rewards.grading import grade_groups
from riskpo_jax.rewards.outcome import Reward
from riskpo_jax.rollout.sampler import Sampler, decode_responses
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.types import Prompts


@dataclass(frozen=True)
class EvalSet:
    """Evaluation problems and the host arrays of their prompts, row i that of problem i."""

    name: str
    problems: Sequence[Problem]
    prompts: Prompts


def evaluate(
    sampler: Sampler,
    params: Any,
    key: jax.Array,
    eval_set: EvalSet,
    *,
    tokenizer: PreTrainedTokenizerBase,
    reward: Reward,
    sampling: SamplingParams,
    samples: int,
    batch_size: int,
    step: int,
) -> EvalResult:
    """Samples `samples` responses to every problem, `batch_size` problems at a time, and grades them.

    The last batch is filled with repeated problems whose responses are dropped, so that one shape is
    compiled. The entropy is the sampled -log p, which is unbiased at plain sampling and NaN where the
    draw is greedy or narrowed.
    """
    problems, prompts = eval_set.problems, eval_set.prompts
    outcomes, lengths, truncated, logprobs = [], [], [], []
    for start in range(0, len(problems), batch_size):
        rows = np.arange(start, min(start + batch_size, len(problems)))
        filled = np.resize(rows, batch_size)
        batch = sampler.place(Prompts(prompts.tokens[filled], prompts.lengths[filled]))
        batch_key = jax.random.fold_in(key, start)
        rollout = jax.device_get(sampler(params, batch_key, batch, samples, sampling))
        kept = len(rows) * samples
        texts = decode_responses(tokenizer, rollout.tokens[:kept], rollout.lengths[:kept])
        outcomes += grade_groups(reward, [problems[i] for i in rows], texts)
        lengths.append(rollout.lengths[:kept])
        truncated.append(rollout.truncated[:kept])
        logprobs.append(rollout.logprobs[:kept].sum(axis=1, dtype=np.float64))
    shape_PxS = (len(problems), samples)
    plain = sampling.temperature > 0 and not sampling.top_k and sampling.top_p == 1
    return EvalResult(
        dataset=eval_set.name,
        step=step,
        problem_ids=[problem.id for problem in problems],
        levels=[problem.level for problem in problems],
        correct_PxS=np.array([[outcome.correct for outcome in group] for group in outcomes]),
        answers=[[outcome.answer for outcome in group] for group in outcomes],
        outcomes=[[str(outcome.kind) for outcome in group] for group in outcomes],
        lengths_PxS=np.concatenate(lengths).reshape(shape_PxS),
        truncated_PxS=np.concatenate(truncated).reshape(shape_PxS),
        entropy_PxS=np.concatenate(logprobs).reshape(shape_PxS) * (-1.0 if plain else np.nan),
    )
