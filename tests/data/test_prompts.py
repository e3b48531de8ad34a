"""Templates, padding, the length limit and end tokens. What models say themselves is in test_chat.py."""

import numpy as np
import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.prompts import PromptEncoder, eos_ids, fill_template, one_bos
from riskpo_jax.data.tokenizers import byte_tokenizer
from riskpo_jax.errors import UserError

TOKENIZER = byte_tokenizer()


def problem(text, **metadata):
    return Problem(id=f"p-{text}", text=text, answer="", dataset="", metadata=metadata)


def test_a_template_knows_the_problem_and_its_metadata():
    assert fill_template("{numbers}={target}:", problem("?", numbers="3 7", target=21)) == "3 7=21:"
    tricky = problem(r"Solve \frac{1}{x}")
    assert fill_template(r"{problem} \boxed{{}}", tricky) == r"Solve \frac{1}{x} \boxed{}"


@pytest.mark.parametrize("template", ["{number}", "{}", "{problem", r"\boxed{}", "{problem.x}"])
def test_a_template_that_does_not_fit_names_what_is_allowed(template):
    with pytest.raises(UserError) as caught:
        fill_template(template, problem("?", numbers="1 2"))
    assert "{numbers}, {problem}" in str(caught.value) and template in str(caught.value)


def test_prompts_are_right_padded_int32():
    problems = [problem("abc"), problem("d")]
    prompts = PromptEncoder(TOKENIZER, max_length=5).encode(problems)
    assert prompts.tokens.dtype == prompts.lengths.dtype == np.int32
    assert prompts.lengths.tolist() == [3, 1]
    assert (prompts.tokens[0, 3:] == TOKENIZER.pad_token_id).all()
    for row, length, asked in zip(prompts.tokens, prompts.lengths, problems, strict=True):
        assert TOKENIZER.decode(row[:length]) == asked.text


def test_the_answer_instruction_follows_after_a_space():
    encoder = PromptEncoder(TOKENIZER, 99, "Q: {problem}", r"Use \boxed{}.")
    assert encoder.text(problem("1+1?")) == r"Q: 1+1? Use \boxed{}."
    assert TOKENIZER.decode(encoder.ids(problem("1+1?"))) == r"Q: 1+1? Use \boxed{}."


def test_a_problem_says_how_to_answer_where_the_run_does_not():
    asked = Problem("1", "1+1?", "2", "sums", instruction="In a box.")
    code = Problem("2", "Add.", "", "tasks", instruction="\n\nAs code.")
    assert PromptEncoder(TOKENIZER, 99).text(asked) == "1+1? In a box."
    assert PromptEncoder(TOKENIZER, 99).text(code) == "Add.\n\nAs code."
    assert PromptEncoder(TOKENIZER, 99, answer_instruction="").text(asked) == "1+1?"
    assert PromptEncoder(TOKENIZER, 99, answer_instruction="Be brief.").text(asked) == (
        "1+1? Be brief."
    )


def test_a_prompt_that_does_not_fit_or_is_empty():
    with pytest.raises(UserError, match="p-abc has 3 tokens, --data.max_prompt_length is 2"):
        PromptEncoder(TOKENIZER, 2).encode([problem("abc")])
    with pytest.raises(UserError, match="no tokens"):
        PromptEncoder(TOKENIZER, 2).ids(problem(""))


def test_overlong_prompts_are_skipped_and_counted():
    source = [problem("a" * n) for n in (2, 9, 4, 10, 3)]
    kept, skipped = PromptEncoder(TOKENIZER, 4).fitting(source, "skip")
    assert [kept[i].text for i in range(len(kept))] == ["aa", "aaaa", "aaa"] and skipped == 2
    kept, skipped = PromptEncoder(TOKENIZER, 10).fitting(source, "error")
    assert kept is source and skipped == 0


def test_overlong_prompts_as_an_error():
    source = [problem("aa"), problem("abcdef")]
    with pytest.raises(UserError, match="p-abcdef has 6 tokens") as caught:
        PromptEncoder(TOKENIZER, 4).fitting(source, "error")
    assert "--data.max_prompt_length" in str(caught.value)
    assert "--data.on_overlong" in str(caught.value)
    with pytest.raises(UserError, match="none of the 2 problems"):
        PromptEncoder(TOKENIZER, 1).fitting(source, "skip")
    with pytest.raises(UserError, match="--data.on_overlong=drop"):
        PromptEncoder(TOKENIZER, 4).fitting(source, "drop")


def test_one_bos():
    for ids in ([], [5, 7], [7, 5], [7, 7, 5, 7]):
        assert one_bos(ids, None, False) == ids
    assert one_bos([7, 7, 5, 7], 7, False) == one_bos([5, 7], 7, True) == [7, 5, 7]
    assert one_bos([5, 7], 7, False) == [5, 7]
    assert one_bos([], 7, True) == one_bos([7], 7, False) == [7]


def test_eos_ids_is_the_union():
    tokenizer = byte_tokenizer()
    eos = tokenizer.eos_token_id
    assert eos_ids(tokenizer, (), "model") == (eos,)
    assert eos_ids(tokenizer, (200, eos, 50), "model") == (eos, 50, 200)
    tokenizer.eos_token = None
    assert eos_ids(tokenizer, (0,), "model") == (0,)
    with pytest.raises(UserError, match="^model: neither .* eos_token_id"):
        eos_ids(tokenizer, (), "model")


def test_a_template_on_one_line_can_hold_line_breaks_and_latex():
    problem = Problem(id="1", text="1+1", answer="2", dataset="d")
    template = r"Q: {problem}\nAnswer in \boxed{{}} or \\boxed{{}}; \\neq"
    assert fill_template(template, problem) == "Q: 1+1\nAnswer in \\boxed{} or \\boxed{}; \\neq"
