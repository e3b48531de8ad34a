"""Round trips, before and after saving."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from riskpo_jax.data.countdown import CountdownSource
from riskpo_jax.data.tokenizers import byte_tokenizer, countdown_tokenizer, load_tokenizer
from riskpo_jax.errors import UserError

COUNTDOWN, BYTES = countdown_tokenizer(), byte_tokenizer()


def encode(tokenizer, text):
    return tokenizer(text)["input_ids"]


@pytest.mark.parametrize("text", ["(25-7)*3", "3,7,25=46:", "12*3/4", ""])
def test_countdown_round_trip(text):
    assert COUNTDOWN.decode(encode(COUNTDOWN, text)) == text


def test_an_integer_is_one_token():
    words = COUNTDOWN.convert_ids_to_tokens(encode(COUNTDOWN, "3 100 25=46:"))
    assert words == ["3", "100", "25", "=", "46", ":"]
    assert encode(COUNTDOWN, "12") != encode(COUNTDOWN, "1 2")
    assert encode(COUNTDOWN, "125") == encode(COUNTDOWN, "1 2 5")
    assert len(COUNTDOWN) == 4 + 9 + 101


def test_countdown_problems_are_encoded_without_loss():
    source = CountdownSource(0, "train", 300)
    for problem in (source[i] for i in range(300)):
        text = "{numbers}={target}:{solution}".format(**problem.metadata)
        ids = encode(COUNTDOWN, text)
        assert " ".join(COUNTDOWN.convert_ids_to_tokens(ids)).replace(" ", "") == text.replace(
            " ", ""
        )
        solution = problem.metadata["solution"]
        assert COUNTDOWN.decode(encode(COUNTDOWN, solution)) == solution


def test_special_tokens_can_be_left_out():
    ids = [*encode(COUNTDOWN, "3,7=21:3*7"), COUNTDOWN.eos_token_id]
    assert COUNTDOWN.decode(ids, skip_special_tokens=True) == "3,7=21:3*7"


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=30).filter(lambda text: "<" not in text))
def test_byte_round_trip(text):
    text = unicodedata.normalize("NFC", text)
    ids = encode(BYTES, text)
    assert BYTES.decode(ids) == text and len(ids) == len(text.encode())


@pytest.mark.parametrize("tokenizer", [COUNTDOWN, BYTES], ids=["countdown", "byte"])
@pytest.mark.parametrize("load", [AutoTokenizer.from_pretrained, load_tokenizer])
def test_saved_and_loaded_is_the_same(tokenizer, load, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    _assert_same(tokenizer, load(tmp_path))


@pytest.mark.parametrize("tokenizer", [COUNTDOWN, BYTES], ids=["countdown", "byte"])
@pytest.mark.parametrize("load", [AutoTokenizer.from_pretrained, load_tokenizer])
def test_loads_unchanged_beside_a_qwen2_model(tokenizer, load, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    _assert_same(tokenizer, load(tmp_path))


def _assert_same(tokenizer, loaded):
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.all_special_ids == tokenizer.all_special_ids
    assert loaded.eos_token_id == tokenizer.eos_token_id
    for text in ("3 7 25=46:", "(25-7)*3", "100 1 0=5:12*3"):
        assert encode(loaded, text) == encode(tokenizer, text)
        assert loaded.decode(encode(loaded, text)) == tokenizer.decode(encode(tokenizer, text))


@pytest.fixture(scope="module", params=["qwen2", "qwen3", "llama3", "r1_distill"])
def as_on_the_hub(request, write_tokenizer, tmp_path_factory):
    """(tokenizer.json read by its own library, what we load) of a kind of model."""
    directory = write_tokenizer(request.param, tmp_path_factory.mktemp(request.param))
    return Tokenizer.from_file(str(directory / "tokenizer.json")), load_tokenizer(directory)


@settings(deadline=None, max_examples=100)
@given(st.text(st.sampled_from("aA 1237890\n\t'!.é\u0301あ中<|>\\"), max_size=30))
def test_tokens_are_those_of_tokenizer_json(as_on_the_hub, text):
    """transformers 5 rebuilds some kinds by the rules of another; see load_tokenizer."""
    file, loaded = as_on_the_hub
    assert encode(loaded, text) == file.encode(text).ids
    ids = file.encode(text, add_special_tokens=False).ids
    assert loaded.decode(ids) == file.decode(ids, skip_special_tokens=False)


def test_no_token_is_added_to_tokenizer_json(as_on_the_hub):
    file, loaded = as_on_the_hub
    assert loaded.get_vocab() == file.get_vocab()


def test_a_tokenizer_of_two_files(write_tokenizer, tmp_path):
    """vocab.json and merges.txt, as Qwen's older directories have them."""
    loaded = load_tokenizer(write_tokenizer("qwen2", tmp_path))
    model = json.loads((tmp_path / "tokenizer.json").read_text())["model"]
    (tmp_path / "vocab.json").write_text(json.dumps(model["vocab"]))
    merges = [" ".join(pair) for pair in model["merges"]]
    (tmp_path / "merges.txt").write_text("\n".join(["#version: 0.2", *merges]))
    (tmp_path / "tokenizer.json").unlink()
    text = "Let's see the system: 123."
    assert encode(load_tokenizer(tmp_path), text) == encode(loaded, text)


def test_a_directory_without_tokenizer(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        load_tokenizer(tmp_path)
    (tmp_path / "tokenizer.json").write_text('{"half')
    with pytest.raises(UserError, match="tokenizer"):
        load_tokenizer(tmp_path)
