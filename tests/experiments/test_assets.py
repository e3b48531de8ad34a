"""The models that ship are what the code makes."""

import json
from pathlib import Path

import pytest

from riskpo_jax.data.tokenizers import (
    byte_tokenizer,
    countdown_tokenizer,
    grid_path_tokenizer,
    letter_tokenizer,
    load_tokenizer,
    sudoku_tokenizer,
)
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.hf import load_params

ASSETS = Path(__file__).parents[2] / "experiments" / "assets"
OF_TASKS = {
    "countdown": countdown_tokenizer,
    "mini_sudoku": sudoku_tokenizer,
    "palindrome_generation": letter_tokenizer,
    "shortest_path": grid_path_tokenizer,
}
BUILDERS = {
    "tiny-bytes": byte_tokenizer,
    **{f"{task}-{stage}": make for task, make in OF_TASKS.items() for stage in ("init", "base")},
}


@pytest.mark.parametrize("name", BUILDERS)
def test_the_tokenizer_is_the_one_that_the_code_builds(name):
    stored, built = load_tokenizer(ASSETS / name), BUILDERS[name]()
    assert stored.get_vocab() == built.get_vocab()
    for text in (
        "3 7 25=46:",
        "(25-7)*3",
        "12,100/4",
        "3 1\n4 2:",
        "X *\n# O:",
        "up down",
        "h m m h:",
    ):
        assert stored(text)["input_ids"] == built(text)["input_ids"]
    config = DecoderConfig.from_directory(ASSETS / name)
    assert (config.vocab_size, config.eos_token_ids) == (len(built), (built.eos_token_id,))


@pytest.mark.parametrize("task", OF_TASKS)
def test_the_base_is_small_and_of_the_initial_shape(task):
    base = ASSETS / f"{task}-base"
    assert sum(file.stat().st_size for file in base.iterdir()) <= 4 * 2**20
    load_params(base, DecoderConfig.from_directory(base))
    initial = json.loads((ASSETS / f"{task}-init" / "config.json").read_text())
    stored = json.loads((base / "config.json").read_text())
    assert {key: stored.get(key) for key in initial} == initial
