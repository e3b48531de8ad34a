"""Round trips, before and after saving."""

import json
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer
from transformers import AutoTokenizer

from riskpo_jax.data.countdown import CountdownSource
from riskpo_jax.data.tokenizers import (
    byte_tokenizer,
    countdown_tokenizer,
    declare_class,
    grid_path_tokenizer,
    letter_tokenizer,
    load_tokenizer,
    sudoku_tokenizer,
)
from riskpo_jax.errors import UserError

COUNTDOWN, BYTES = countdown_tokenizer(), byte_tokenizer()
ALL = [COUNTDOWN, BYTES, letter_tokenizer(), sudoku_tokenizer(), grid_path_tokenizer()]


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


def test_a_cell_or_a_letter_is_one_token():
    sudoku, paths = sudoku_tokenizer(), grid_path_tokenizer()
    rows = "3 1 4 2\n4 2 1 3\n2 4 3 1\n1 3 2 4"
    assert len(encode(sudoku, rows)) == 16 and sudoku.decode(encode(sudoku, rows)) == rows
    assert len(encode(sudoku, f"{rows}:")) == 17
    assert sudoku.decode(encode(sudoku, "31 \n")) == "31 "  # what is no cell is dropped
    letters = letter_tokenizer()
    assert letters.decode(encode(letters, "h m m h:")) == "hmmh:"
    board = "X O *\nO # O"
    assert len(encode(paths, f"{board}:")) == 7 and paths.decode(encode(paths, board)) == board
    path = "left left up right down"
    assert len(encode(paths, path)) == 5 and paths.decode(encode(paths, path)) == path
    assert paths.decode(encode(paths, "infeasible")) == "infeasible"


def test_special_tokens_can_be_left_out():
    ids = [*encode(COUNTDOWN, "3,7=21:3*7"), COUNTDOWN.eos_token_id]
    assert COUNTDOWN.decode(ids, skip_special_tokens=True) == "3,7=21:3*7"


@settings(deadline=None, max_examples=200)
@given(st.text(max_size=30).filter(lambda text: "<" not in text))
def test_byte_round_trip(text):
    text = unicodedata.normalize("NFC", text)
    ids = encode(BYTES, text)
    assert BYTES.decode(ids) == text and len(ids) == len(text.encode())


@pytest.mark.parametrize(
    "tokenizer", ALL, ids=["countdown", "byte", "letter", "sudoku", "grid_path"]
)
@pytest.mark.parametrize("load", [AutoTokenizer.from_pretrained, load_tokenizer])
def test_saved_and_loaded_is_the_same(tokenizer, load, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    _assert_same(tokenizer, load(tmp_path))


@pytest.mark.parametrize(
    "tokenizer", ALL, ids=["countdown", "byte", "letter", "sudoku", "grid_path"]
)
@pytest.mark.parametrize("load", [AutoTokenizer.from_pretrained, load_tokenizer])
def test_loads_unchanged_beside_a_qwen2_model(tokenizer, load, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    _assert_same(tokenizer, load(tmp_path))


def _assert_same(tokenizer, loaded):
    assert loaded.get_vocab() == tokenizer.get_vocab()
    assert loaded.all_special_ids == tokenizer.all_special_ids
    assert loaded.eos_token_id == tokenizer.eos_token_id
    for text in ("3 7 25=46:", "(25-7)*3", "100 1 0=5:12*3", "4 2\n1 3", "X *\n# O:", "up down"):
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


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama3"])
def test_a_tokenizer_that_transformers_reads_as_we_do_stays_as_it_is(
    write_tokenizer, tmp_path, kind
):
    directory = write_tokenizer(kind, tmp_path)
    before = (directory / "tokenizer_config.json").read_bytes()
    assert declare_class(directory, load_tokenizer(directory))
    assert (directory / "tokenizer_config.json").read_bytes() == before


@pytest.mark.parametrize(
    ("model_type", "alike"), [("qwen3", True), ("llama", True), ("qwen2", False)]
)
def test_a_class_that_transformers_takes_as_the_file(write_tokenizer, tmp_path, model_type, alike):
    """Rules that are not those of the class named; nothing helps beside a qwen2 model (5.23)."""
    directory = write_tokenizer("r1_distill", tmp_path)
    settings = json.loads((directory / "tokenizer_config.json").read_text())
    settings["tokenizer_class"] = "Qwen2Tokenizer"
    (directory / "tokenizer_config.json").write_text(json.dumps(settings))
    (directory / "config.json").write_text(json.dumps({"model_type": model_type}))
    ours = load_tokenizer(directory)
    assert declare_class(directory, ours) == alike
    theirs = AutoTokenizer.from_pretrained(directory)
    assert (encode(theirs, "123789") == encode(ours, "123789")) == alike
    assert encode(load_tokenizer(directory), "123789") == encode(ours, "123789")


def test_a_directory_without_tokenizer(tmp_path):
    with pytest.raises(UserError, match=str(tmp_path)):
        load_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("tokenizer.json", b"", "Expecting value"),
        ("tokenizer.json", b'{"half', "Unterminated string"),
        ("tokenizer.json", b"[1]", "no JSON object"),
        ("tokenizer_config.json", b'{"bos_token": ', "Expecting value"),
        ("chat_template.jinja", b"caf\xe9", "can't decode byte 0xe9"),
    ],
)
def test_the_broken_file_is_named(write_tokenizer, tmp_path, name, content, reason):
    directory = write_tokenizer("llama3", tmp_path)
    (directory / name).write_bytes(content)
    with pytest.raises(UserError, match=f"{reason}.*: copy it again") as caught:
        load_tokenizer(directory)
    assert str(caught.value).startswith(f"{directory / name} ")


def test_whole_files_that_are_no_tokenizer(write_tokenizer, tmp_path):
    directory = write_tokenizer("llama3", tmp_path)
    (directory / "tokenizer.json").write_text("{}")
    with pytest.raises(UserError, match=f"no usable tokenizer in {directory} .*: copy"):
        load_tokenizer(directory)
