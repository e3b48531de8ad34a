"""The evaluator: every problem once, with its own responses, whatever the batches."""

import dataclasses

import jax
import numpy as np
import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.tokenizers import byte_tokenizer
from riskpo_jax.evaluation.evaluator import EvalSet, evaluate
from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.rewards.outcome import NO_ANSWER, verdict
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import make_mesh
from riskpo_jax.types import Prompts, Rollout

SAMPLES, WIDTH = 3, 6
TOKENIZER = byte_tokenizer()
PROBLEMS = [
    Problem(f"p{i}", f"say {i}", str(i), "digits", level="even" if i % 2 == 0 else "odd")
    for i in range(5)
]
PROMPTS = Prompts(
    np.array([TOKENIZER(str(i))["input_ids"] for i in range(5)], np.int32), np.ones(5, np.int32)
)
PLAIN, GREEDY = SamplingParams(), SamplingParams(temperature=0.0)


class Echo:
    """Stands in for the sampler: sample g of a question repeats its prompt g times, then ends."""

    def __init__(self):
        self.batches, self.keys = [], []

    def place(self, prompts):
        return prompts

    def __call__(self, params, key, prompts, group_size, sampling):
        self.batches.append(prompts.tokens[:, 0].tolist())
        self.keys.append(tuple(np.asarray(jax.random.key_data(key)).tolist()))
        rows = [
            [token] * g + [TOKENIZER.eos_token_id] * (g < group_size - 1)
            for token in prompts.tokens[:, 0]
            for g in range(group_size)
        ]
        lengths = np.array([len(row) for row in rows])
        slots = np.arange(WIDTH)[None] < lengths[:, None]
        return Rollout(
            tokens=np.array([row + [0] * (WIDTH - len(row)) for row in rows]),
            lengths=lengths,
            logprobs=np.where(slots, -0.25, 0.0),
            truncated=np.arange(len(rows)) % group_size == group_size - 1,
        )


def reward(response, problem):
    return verdict(response == problem.answer, response) if response else NO_ANSWER


def run(sampler, *, sampling=PLAIN, batch_size=2):
    settings = {
        "tokenizer": TOKENIZER, "reward": reward, "samples": SAMPLES, "step": 9,
        "sampling": sampling, "batch_size": batch_size,
    }  # fmt: skip
    eval_set = EvalSet("digits", PROBLEMS, PROMPTS)
    return evaluate(sampler, None, jax.random.key(0), eval_set, **settings)


def assert_same(a, b):
    for field in dataclasses.fields(EvalResult):
        np.testing.assert_array_equal(getattr(a, field.name), getattr(b, field.name))


@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 8])
def test_every_problem_is_graded_once_on_its_own_responses(batch_size):
    sampler = Echo()
    result = run(sampler, batch_size=batch_size)
    assert result.problem_ids == [f"p{i}" for i in range(5)]
    assert result.levels == ["even", "odd", "even", "odd", "even"]
    assert (result.dataset, result.step) == ("digits", 9)
    assert result.answers == [["", str(i), str(i) * 2] for i in range(5)]
    assert result.outcomes == [["no_answer", "correct", "wrong"]] * 5
    np.testing.assert_array_equal(result.correct_PxS, [[False, True, False]] * 5)
    np.testing.assert_array_equal(result.lengths_PxS, [[1, 2, 2]] * 5)
    np.testing.assert_array_equal(result.truncated_PxS, [[False, False, True]] * 5)
    np.testing.assert_allclose(result.entropy_PxS, [[0.25, 0.5, 0.5]] * 5)
    assert {len(batch) for batch in sampler.batches} == {batch_size}  # one shape is compiled
    assert len(sampler.batches) == -(-5 // batch_size) == len(set(sampler.keys))


@pytest.mark.parametrize(
    "sampling",
    [GREEDY, SamplingParams(top_k=5), SamplingParams(top_p=0.9)],
    ids=["greedy", "top_k", "top_p"],
)
def test_the_entropy_is_not_measured_when_the_draw_is_narrowed(sampling):
    result = run(Echo(), sampling=sampling)
    assert np.isnan(result.entropy_PxS).all() and result.entropy_PxS.shape == (5, SAMPLES)


def test_greedy_answers_do_not_depend_on_the_batches(tiny_model, tiny_params):
    """With the real sampler; the tiny model speaks the first 23 tokens."""
    prompts = Prompts(PROMPTS.tokens % 23, PROMPTS.lengths)
    sampler = Sampler(tiny_model, make_mesh(), max_response_length=WIDTH, eos_ids=(1,))
    whole, parts = (
        evaluate(
            sampler,
            tiny_params,
            jax.random.key(seed),
            EvalSet("digits", PROBLEMS, prompts),
            tokenizer=TOKENIZER,
            reward=lambda response, problem: verdict(len(response) > 2, response),
            sampling=GREEDY,
            samples=2,
            batch_size=batch_size,
            step=0,
        )
        for seed, batch_size in ((0, 5), (1, 2))
    )
    assert_same(whole, parts)
    assert len({tuple(row) for row in whole.answers}) > 1
