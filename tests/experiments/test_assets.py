"""The models that ship are what the code makes."""

import json
from pathlib import Path

import pytest

from riskpo_jax.data.tokenizers import byte_tokenizer, countdown_tokenizer, load_tokenizer
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.hf import load_params

ASSETS = Path(__file__).parents[2] / "experiments" / "assets"
BUILDERS = {
    "countdown-init": countdown_tokenizer,
    "countdown-base": countdown_tokenizer,
    "tiny-bytes": byte_tokenizer,
}


@pytest.mark.parametrize("name", BUILDERS)
def test_the_tokenizer_is_the_one_that_the_code_builds(name):
    stored, built = load_tokenizer(ASSETS / name), BUILDERS[name]()
    assert stored.get_vocab() == built.get_vocab()
    for text in ("3 7 25=46:", "(25-7)*3", "12,100/4"):
        assert stored(text)["input_ids"] == built(text)["input_ids"]
    config = DecoderConfig.from_directory(ASSETS / name)
    assert (config.vocab_size, config.eos_token_ids) == (len(built), (built.eos_token_id,))


def test_the_base_is_small_and_of_the_initial_shape():
    base = ASSETS / "countdown-base"
    assert sum(file.stat().st_size for file in base.iterdir()) <= 4 * 2**20
    load_params(base, DecoderConfig.from_directory(base))
    initial = json.loads((ASSETS / "countdown-init" / "config.json").read_text())
    stored = json.loads((base / "config.json").read_text())
    assert {key: stored.get(key) for key in initial} == initial
