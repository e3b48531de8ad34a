"""Templates, padding, the length limit, chat templates and end tokens."""

import numpy as np
import pytest

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.prompts import (
    encode_prompt,
    encode_prompts,
    eos_ids,
    filter_overlong,
    format_prompt,
)
from riskpo_jax.data.tokenizers import byte_tokenizer
from riskpo_jax.errors import UserError

TEMPLATE = "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] }}{% endfor %}"


def problem(text, **metadata):
    return Problem(id=f"p-{text}", text=text, answer="", dataset="", metadata=metadata)


def test_format_prompt_knows_the_problem_and_its_metadata():
    assert format_prompt("{numbers}={target}:", problem("?", numbers="3 7", target=21)) == "3 7=21:"
    tricky = problem(r"Solve \frac{1}{x}")
    assert format_prompt(r"{problem} \boxed{{}}", tricky) == r"Solve \frac{1}{x} \boxed{}"


@pytest.mark.parametrize("template", ["{number}", "{}", "{problem", r"\boxed{}", "{problem.x}"])
def test_a_template_that_does_not_fit_names_what_is_allowed(template):
    with pytest.raises(UserError) as caught:
        format_prompt(template, problem("?", numbers="1 2"))
    assert "{numbers}, {problem}" in str(caught.value) and template in str(caught.value)


def test_prompts_are_left_padded_int32():
    tokenizer = byte_tokenizer()
    prompts = encode_prompts(tokenizer, ["abc", "d"], max_length=5)
    assert prompts.tokens.dtype == prompts.lengths.dtype == np.int32
    assert prompts.lengths.tolist() == [3, 1]
    assert (prompts.tokens[0, :2] == tokenizer.pad_token_id).all()
    for row, length, text in zip(prompts.tokens, prompts.lengths, ["abc", "d"], strict=True):
        assert tokenizer.decode(row[5 - length :]) == text


def test_a_prompt_that_does_not_fit_or_is_empty():
    with pytest.raises(UserError, match="3 tokens: raise --data.max_prompt_length=2"):
        encode_prompts(byte_tokenizer(), ["abc"], max_length=2)
    with pytest.raises(UserError, match="no tokens"):
        encode_prompt(byte_tokenizer(), "")


def test_overlong_prompts_are_skipped_and_counted():
    source = [problem("a" * n) for n in (2, 9, 4, 10, 3)]
    kept, skipped = filter_overlong(source, byte_tokenizer(), "{problem}", 4, "skip")
    assert [kept[i].text for i in range(len(kept))] == ["aa", "aaaa", "aaa"] and skipped == 2
    kept, skipped = filter_overlong(source, byte_tokenizer(), "{problem}", 10, "error")
    assert kept is source and skipped == 0


def test_overlong_prompts_as_an_error():
    source = [problem("aa"), problem("abcdef")]
    with pytest.raises(UserError, match="p-abcdef has 6 tokens") as caught:
        filter_overlong(source, byte_tokenizer(), "{problem}", 4, "error")
    assert "--data.max_prompt_length" in str(caught.value)
    assert "--data.on_overlong" in str(caught.value)
    with pytest.raises(UserError, match="none of the 2 problems"):
        filter_overlong(source, byte_tokenizer(), "{problem}", 1, "skip")
    with pytest.raises(UserError, match="--data.on_overlong=drop"):
        filter_overlong(source, byte_tokenizer(), "{problem}", 4, "drop")


def test_a_chat_prompt_has_exactly_one_bos():
    """Also for a tokenizer which adds BOS to any text, as Llama's does."""
    from tokenizers.processors import TemplateProcessing

    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE + "{% if add_generation_prompt %}[assistant]{% endif %}"
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single="<bos> $A", special_tokens=[("<bos>", tokenizer.bos_token_id)]
    )
    assert encode_prompt(tokenizer, "hi")[0] == tokenizer.bos_token_id
    ids = encode_prompt(tokenizer, "hi", chat=True)
    assert ids.count(tokenizer.bos_token_id) == 1
    assert tokenizer.decode(ids, skip_special_tokens=True) == "[user] hi[assistant]"


def test_chat_without_a_template():
    with pytest.raises(UserError, match="no chat template"):
        encode_prompt(byte_tokenizer(), "hi", chat=True)


def test_eos_ids_is_the_union():
    tokenizer = byte_tokenizer()
    eos = tokenizer.eos_token_id
    assert eos_ids(tokenizer) == (eos,)
    assert eos_ids(tokenizer, {"eos_token_id": None}) == (eos,)
    assert eos_ids(tokenizer, {"eos_token_id": 99}) == (eos, 99)
    assert eos_ids(tokenizer, {"eos_token_id": [200, eos, 50]}) == (eos, 50, 200)
    tokenizer.eos_token = None
    assert eos_ids(tokenizer, {"eos_token_id": 0}) == (0,)
    with pytest.raises(UserError, match="eos_token_id"):
        eos_ids(tokenizer, {})


def test_a_template_on_one_line_can_hold_line_breaks_and_latex():
    problem = Problem(id="1", text="1+1", answer="2", dataset="d")
    template = r"Q: {problem}\nAnswer in \boxed{{}} or \\boxed{{}}; \\neq"
    assert format_prompt(template, problem) == "Q: 1+1\nAnswer in \\boxed{} or \\boxed{}; \\neq"
