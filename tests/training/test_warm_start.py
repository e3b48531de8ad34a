"""Solutions as training rows: they decode to what they were and end in the end token."""

import numpy as np
import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.reasoning_gym import ReasoningGymSource
from riskpo_jax.data.tokenizers import byte_tokenizer
from riskpo_jax.errors import UserError
from riskpo_jax.training.setup import Policy
from riskpo_jax.training.warm_start import check_solutions, solutions_batch

TOKENIZER = byte_tokenizer()


@pytest.fixture
def policy(make_config, tiny_model):
    config = make_config(data__max_prompt_length=6)  # and 8 response slots
    return Policy(config, tiny_model, TOKENIZER, (TOKENIZER.eos_token_id,), {})


def problem(text, **metadata):
    return Problem(f"say-{text}", text, "", "sums", metadata=metadata)


def test_rows_are_prompt_then_solution_then_end(policy):
    texts, solutions = ["1+1", "2*3+4"], ["2", "6+4=10!"]
    batch = solutions_batch(
        policy, [problem(t, solution=s) for t, s in zip(texts, solutions, strict=True)]
    )
    prompts, rows = batch.prompts, batch.responses
    assert prompts.tokens.shape == (2, 6) and rows.tokens.shape == (2, 8)
    for n in range(2):
        prompt = prompts.tokens[n, : prompts.lengths[n]]
        response = rows.tokens[n, : rows.lengths[n]]
        assert TOKENIZER.decode(prompt) == texts[n]
        assert TOKENIZER.decode(response[:-1]) == solutions[n]
        assert response[-1] == TOKENIZER.eos_token_id
        np.testing.assert_array_equal(rows.tokens[n, rows.lengths[n] :], 0)


def test_a_problem_without_a_solution(policy):
    with pytest.raises(UserError, match="problem say-1 has no solution"):
        solutions_batch(policy, [problem("1")])


def test_a_task_without_answers_is_refused_before_the_run(make_config, tiny_model):
    pytest.importorskip("reasoning_gym", reason="the reasoning-gym extra is not installed")
    source = ReasoningGymSource("rush_hour", 0, "train", 2)
    config = make_config(data__prompt_template="{task}", data__max_prompt_length=9)
    policy = Policy(config, tiny_model, TOKENIZER, (TOKENIZER.eos_token_id,), {})
    with pytest.raises(
        UserError, match="rush_hour-train-0-0 has no solution .* reasoning_gym whose"
    ):
        check_solutions(policy, source)


def test_a_solution_that_does_not_fit_with_its_end(policy):
    with pytest.raises(UserError, match="say-1 has 9 tokens: raise --rollout.max_response_length"):
        solutions_batch(policy, [problem("1", solution="12345678")])


def test_limits_that_are_too_low_show_before_the_run(policy):
    source = [problem("1", solution="2"), problem("2", solution="12345678")]
    check_solutions(policy, source, count=1)
    with pytest.raises(UserError, match="say-2 has 9 tokens"):
        check_solutions(policy, source)
