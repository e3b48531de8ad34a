"""The evaluator: every problem once, with its own responses, whatever the batches."""

import dataclasses

import jax
import numpy as np
import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.tokenizers import byte_tokenizer
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.evaluator import EvalSet, Evaluator
from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.rewards.grader import FunctionGrader
from riskpo_jax.rewards.outcome import NO_ANSWER, Kind, Outcome, verdict
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.rollout.session import Finished
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
    """Stands in for the sampler: sample g of a question repeats its prompt g times, then ends.

    The last question is complete first, and the others together.
    """

    def __init__(self):
        self.batches, self.keys = [], []

    def stream(self, params, key, prompts, group_size, sampling, *, first=0):
        count = len(prompts.lengths)
        self.batches.append(prompts.tokens[:, 0].tolist())
        data = tuple(np.asarray(jax.random.key_data(key)).tolist())
        self.keys += [(*data, first + n) for n in range(count * group_size)]
        for questions in ([count - 1], list(range(count - 1))):
            if questions:
                yield Finished(questions, self.rollout(prompts.tokens[questions, 0], group_size))

    def rollout(self, tokens, group_size):
        rows = [
            [token] * g + [TOKENIZER.eos_token_id] * (g < group_size - 1)
            for token in tokens
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


EVAL_SET = EvalSet("digits", PROBLEMS, PROMPTS)


def evaluator(sampler, *, sampling=PLAIN, batch_size=2, reward=reward, seed=0, samples=SAMPLES):
    return Evaluator(
        sampler=sampler,
        tokenizer=TOKENIZER,
        grader=FunctionGrader(reward),
        sampling=sampling,
        samples=samples,
        batch_size=batch_size,
        key=jax.random.key(seed),
    )


def run(sampler, **settings):
    return evaluator(sampler, **settings).evaluate(None, EVAL_SET, step=9)


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
    assert max(map(len, sampler.batches)) <= batch_size
    assert len(sampler.batches) == -(-5 // batch_size)
    assert len(set(sampler.keys)) == 5 * SAMPLES  # every response draws by itself


@pytest.mark.parametrize(
    "sampling",
    [GREEDY, SamplingParams(top_k=5), SamplingParams(top_p=0.9)],
    ids=["greedy", "top_k", "top_p"],
)
def test_the_entropy_is_not_measured_when_the_draw_is_narrowed(sampling):
    result = run(Echo(), sampling=sampling)
    assert np.isnan(result.entropy_PxS).all() and result.entropy_PxS.shape == (5, SAMPLES)


@pytest.fixture(scope="module")
def real_sampler(tiny_model):
    """The tiny model speaks the first 23 tokens."""
    return Sampler(Programs(tiny_model, make_mesh(), longest=WIDTH, eos_ids=(1,)), slots=6)


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN], ids=["greedy", "plain"])
def test_answers_do_not_depend_on_the_batches(real_sampler, tiny_params, sampling):
    """With the real sampler, at temperature 1, too."""
    prompts = Prompts(PROMPTS.tokens % 23, PROMPTS.lengths)
    eval_set = EvalSet("digits", PROBLEMS, prompts)

    def longer_than_two(response, problem):
        return verdict(len(response) > 2, response)

    whole, parts = (
        evaluator(
            real_sampler,
            reward=longer_than_two,
            sampling=sampling,
            samples=2,
            batch_size=batch_size,
        ).evaluate(tiny_params, eval_set, step=0)
        for batch_size in (5, 2)
    )
    for field in dataclasses.fields(EvalResult):
        one, other = getattr(whole, field.name), getattr(parts, field.name)
        if field.name == "entropy_PxS":  # sums of logarithms
            np.testing.assert_allclose(one, other, atol=1e-4)
        else:
            np.testing.assert_array_equal(one, other)
    assert len({tuple(row) for row in whole.answers}) > 1


@pytest.mark.parametrize("done", [0, 2, 4])
def test_what_is_left_is_drawn_as_if_nothing_had_been_cut_off(real_sampler, tiny_params, done):
    """With the real sampler at temperature 1: the draw of a batch knows nothing of the ones before."""
    prompts = Prompts(PROMPTS.tokens % 23, PROMPTS.lengths)
    eval_set = EvalSet("digits", PROBLEMS, prompts)
    batches = list(evaluator(real_sampler).batches(tiny_params, eval_set))
    rest = list(evaluator(real_sampler).batches(tiny_params, eval_set, done))
    assert [len(batch) for batch in batches] == [2, 2, 1]
    assert rest == batches[done // 2 :]
    assert len({response.text for batch in batches for group in batch for response in group}) > 5


def test_sets_draw_apart():
    """Or a flat model would answer the problems of all sets alike."""
    keys = []
    for name in ("digits", "letters", "digits"):
        sampler = Echo()
        evaluator(sampler).evaluate(None, dataclasses.replace(EVAL_SET, name=name), step=0)
        keys.append(sampler.keys)
    assert keys[0] == keys[2] and not set(keys[0]) & set(keys[1])


def test_a_batch_is_graded_while_the_next_is_sampled():
    """And never are the verdicts of more than two batches outstanding."""
    events = []

    class Recorder(Echo):
        def stream(self, params, key, prompts, *args, **settings):
            events.append(f"sample {prompts.tokens[0, 0] - PROMPTS.tokens[0, 0]}")
            return super().stream(params, key, prompts, *args, **settings)

    def recording_reward(response, problem):
        if not response:  # the first of each problem's
            events.append(f"grade {problem.id}")
        return reward(response, problem)

    for batch in evaluator(Recorder(), reward=recording_reward).batches(None, EVAL_SET):
        events.append(f"write {len(batch)}")
    assert events == [
        "sample 0", "grade p1", "grade p0", "sample 2", "grade p3", "grade p2", "write 2",
        "sample 4", "grade p4", "write 2", "write 1",
    ]  # fmt: skip


def test_a_reward_that_fails_on_the_first_batch_ends_the_evaluation_and_later_is_counted():
    def fails_on(*ids):
        def broken(response, problem):
            if problem.id in ids:
                raise ValueError("no")
            return verdict(True, response)

        return broken

    with pytest.raises(UserError, match="failed on all 6 responses of a batch"):
        run(Echo(), reward=fails_on("p0", "p1"))
    result = run(Echo(), reward=fails_on("p0", "p4"))
    assert [row[0] for row in result.outcomes] == ["error", *["correct"] * 3, "error"]


def test_graded_scores_reach_the_responses():
    graded = evaluator(Echo(), reward=lambda *_: Outcome(Kind.WRONG, 0.375, "a"))
    (batch, *_) = graded.batches(None, EVAL_SET)
    assert {response.outcome.score for group in batch for response in group} == {0.375}
