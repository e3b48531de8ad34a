"""Prompts token for token, for a small tokenizer of every kind; the file's own rules are the oracle."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from riskpo_jax.config import DataConfig
from riskpo_jax.data.chat import make_chat
from riskpo_jax.data.problem import Problem
from riskpo_jax.data.prompts import eos_ids, make_prompt_encoder
from riskpo_jax.data.tokenizers import byte_tokenizer, load_tokenizer
from riskpo_jax.errors import UserError

BOS = {
    "qwen2": "",
    "qwen3": "",
    "llama3": "<|begin_of_text|>",
    "r1_distill": "<｜begin▁of▁sentence｜>",
}
QUESTION = "What is 123 + 7890,\n\n and cafe\u0301's value?"
BOXED = r"Let's think step by step and output the final answer within \boxed{}."
ASKED = f"{QUESTION} {BOXED}"

# What each model's own template makes of the question, without and with a system prompt.
ALONE = {
    "qwen2": "<|im_start|>system\nYou are Qwen.<|im_end|>\n"
    f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n",
    "qwen3": f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n"
    f"{ASKED}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "r1_distill": f"<｜begin▁of▁sentence｜><｜User｜>{ASKED}<｜Assistant｜><think>\n",
}
WITH_SYSTEM = {
    "qwen2": "<|im_start|>system\nBe brief.\nBe right.<|im_end|>\n"
    f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n",
    "qwen3": "<|im_start|>system\nBe brief.\nBe right.<|im_end|>\n"
    f"<|im_start|>user\n{ASKED}<|im_end|>\n<|im_start|>assistant\n",
    "llama3": "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe brief.\nBe right."
    "<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
    f"{ASKED}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    "r1_distill": "<｜begin▁of▁sentence｜>Be brief.\nBe right."
    f"<｜User｜>{ASKED}<｜Assistant｜><think>\n",
}
KINDS = list(ALONE)


@pytest.fixture(scope="module")
def directories(write_tokenizer, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tokenizers")
    return {kind: write_tokenizer(kind, folder / kind) for kind in KINDS}


@pytest.fixture(scope="module")
def tokenizers(directories):
    return {kind: load_tokenizer(directory) for kind, directory in directories.items()}


@pytest.fixture(scope="module")
def ids_of(directories, tokenizers):
    """ids_of(kind, text, **settings) -> the tokens of the prompt."""

    def ids_of(kind: str, text: str, **changes) -> list[int]:
        encoder = make_prompt_encoder(DataConfig(**changes), tokenizers[kind], directories[kind])
        return encoder.ids(Problem("p", text, "", ""))

    return ids_of


def file_ids(directory, text):
    """What the directory's tokenizer.json makes of a text which says all itself."""
    raw = Tokenizer.from_file(str(directory / "tokenizer.json"))
    return raw.encode(text, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", KINDS)
def test_the_models_own_template(ids_of, directories, kind):
    chat = {"chat_template": "model", "answer_instruction": BOXED}
    assert ids_of(kind, QUESTION, **chat) == file_ids(directories[kind], ALONE[kind])
    system = {"system_prompt": r"Be brief.\nBe right."}
    assert ids_of(kind, QUESTION, **chat, **system) == file_ids(
        directories[kind], WITH_SYSTEM[kind]
    )


@pytest.mark.parametrize("kind", KINDS)
def test_no_template_and_the_plain_one(ids_of, directories, kind):
    bare = ids_of(kind, QUESTION, answer_instruction=BOXED, prompt_template=r"Q: {problem}\n")
    assert bare == file_ids(directories[kind], f"{BOS[kind]}Q: {QUESTION}\n {BOXED}")
    plain = {"chat_template": "plain", "answer_instruction": BOXED}
    asked = f"User: {ASKED}\n\nAssistant:"
    assert ids_of(kind, QUESTION, **plain) == file_ids(directories[kind], BOS[kind] + asked)
    assert ids_of(kind, QUESTION, **plain, system_prompt="Be brief.") == file_ids(
        directories[kind], f"{BOS[kind]}Be brief.\n\n{asked}"
    )


def test_qwen3_is_told_not_to_think(ids_of, directories):
    ids = ids_of("qwen3", "1+1?", chat_template="model", thinking=False)
    assert ids == file_ids(
        directories["qwen3"],
        "<|im_start|>user\n1+1?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n",
    )


# Counted by hand: a token of one character is its place in ByteLevel's alphabet ("!" is 0, a line break
# 198, a space 220); merges follow from 256 on, "user" at 258, "assistant" at 271, "ĊĊ" at 279, "123" at
# 281; "789" is 282 and has no merge; the added tokens follow from 283 on.
LITERAL = {
    "qwen2": [284, 263, 198, 56, 78, 84, 220, 64, 81, 68, 220, 48, 86, 68, 77, 13, 285, 198]
    + [284, 258, 198, 16, 17, 18, 22, 23, 24, 285, 198, 284, 271, 198],
    "qwen3": [284, 258, 198, 16, 17, 18, 22, 23, 24, 285, 198, 284, 271, 198],
    "llama3": [283, 285, 258, 286, 279, 281, 282, 287, 285, 271, 286, 279],
    "r1_distill": [286, 284, 281, 22, 23, 24, 285, 287, 198],
}


@pytest.mark.parametrize("kind", KINDS)
def test_golden_tokens(ids_of, kind):
    """Digits one by one in Qwen, in threes elsewhere; "789" whole only where merges are ignored."""
    assert ids_of(kind, "123789", chat_template="model") == LITERAL[kind]


texts = st.text("ab 1<|>\n\u00e9", max_size=8)


@pytest.mark.parametrize("kind", ["llama3", "r1_distill"])
@settings(deadline=None, max_examples=40)
@given(
    pieces=st.lists(texts, min_size=1, max_size=3),
    chat=st.sampled_from(["none", "plain", "model"]),
    before=st.integers(0, 2),
    system=texts,
)
def test_exactly_one_bos(ids_of, tokenizers, kind, pieces, chat, before, system):
    """Whoever writes it: post-processor, chat template, or a prompt that has it, too."""
    bos = BOS[kind]
    between = "" if chat == "none" else bos  # in no template, the middle of a text is the user's
    asked = {"chat_template": chat, "prompt_template": bos * before + "{problem}"}
    if chat != "none":
        asked["system_prompt"] = bos * before + system
    ids = ids_of(kind, between.join(pieces), **asked)
    assert ids.count(tokenizers[kind].bos_token_id) == 1
    assert ids[0] == tokenizers[kind].bos_token_id


@pytest.mark.parametrize("kind", ["qwen2", "qwen3"])
@settings(deadline=None, max_examples=20)
@given(text=texts, chat=st.sampled_from(["plain", "model"]))
def test_no_bos_where_the_tokenizer_has_none(ids_of, tokenizers, kind, text, chat):
    tokenizer = tokenizers[kind]
    ids = ids_of(kind, text, chat_template=chat)
    assert tokenizer.bos_token_id is None
    start = {"plain": "User", "model": "<|im_start|>"}[chat]
    assert ids[0] == tokenizer(start)["input_ids"][0]


def test_a_chat_ends_where_any_of_the_three_files_says(tokenizers):
    qwen, llama = tokenizers["qwen2"], tokenizers["llama3"]
    end, pad = qwen.convert_tokens_to_ids(["<|im_end|>", "<|endoftext|>"])
    assert eos_ids(qwen, (end, pad), "model") == (pad, end)
    assert eos_ids(qwen, (pad,), "model") == (pad, end)  # a base model's config.json
    turn, text = llama.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    assert eos_ids(llama, (text,), "model") == (text, turn)


def test_a_tokenizer_without_a_template(tmp_path):
    with pytest.raises(UserError, match="no chat template.*--data.chat_template=plain") as caught:
        make_chat("model", byte_tokenizer(), tmp_path)
    assert str(tmp_path) in str(caught.value)


REFUSES = "{{ raise_exception('System role not supported') }}"


@pytest.mark.parametrize("file", ["tokenizer_config.json", "chat_template.jinja"])
@pytest.mark.parametrize(
    ("template", "reason"),
    [
        (REFUSES, "System role not supported"),
        ("{% for message in messages %}", "Unexpected end of template"),
        ("{{ messages[0].content.absent.role }}", "no attribute 'absent'"),
        ("{{ 1 / 0 }}", "division by zero"),
    ],
)
def test_a_template_that_raises(write_tokenizer, tmp_path, file, template, reason):
    """One line with the file which holds the template, the reason and the ways out."""
    directory = write_tokenizer("llama3", tmp_path)
    if file == "chat_template.jinja":
        (directory / file).write_text(template)
    else:
        config = json.loads((directory / file).read_text())
        (directory / file).write_text(json.dumps({**config, "chat_template": template}))
    chat = make_chat("model", load_tokenizer(directory), directory, system_prompt="Be brief.")
    with pytest.raises(UserError, match=reason) as caught:
        chat.render("1+1?")
    message = str(caught.value)
    assert f"the chat template in {directory / file} raises" in message and "\n" not in message
    assert "leave out --data.system_prompt" in message and "=plain" in message


def test_only_the_models_own_template_is_blamed(write_tokenizer, tmp_path, monkeypatch):
    """Neither for the plain one's trouble, nor for a missing library's."""
    directory = write_tokenizer("llama3", tmp_path)
    tokenizer = load_tokenizer(directory)

    def fail(error):
        def apply_chat_template(*_, **__):
            raise error

        monkeypatch.setattr(tokenizer, "apply_chat_template", apply_chat_template)

    fail(RuntimeError("something else"))
    with pytest.raises(RuntimeError, match="something else"):
        make_chat("plain", tokenizer, directory).render("1+1?")
    fail(ImportError("needs jinja2"))
    with pytest.raises(ImportError, match="needs jinja2"):
        make_chat("model", tokenizer, directory).render("1+1?")


def test_the_date_in_a_prompt_is_not_todays(write_tokenizer, tmp_path):
    """Llama 3.2's template asks the clock unless it is told; a resumed run must see the same prompts."""
    directory = write_tokenizer("llama3", tmp_path)
    (directory / "chat_template.jinja").write_text(
        "{%- if not date_string is defined %}{%- set date_string = strftime_now('%d %b %Y') %}"
        "{%- endif %}Today Date: {{ date_string }}"
    )
    chat = make_chat("model", load_tokenizer(directory), directory)
    assert chat.render("1+1?") == "Today Date: 26 Jul 2024"
