"""Tokenizers: loading those of model directories, and two built on the spot for small models.

Both of ours are Qwen2 tokenizers, so that transformers' `AutoTokenizer` reads them anywhere as we do.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tokenizers import AddedToken, pre_tokenizers
from transformers import (
    AutoTokenizer,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
    Qwen2Tokenizer,
)

from riskpo_jax.errors import UserError

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "tokenizer.model",
    "chat_template.jinja",
    "chat_template.json",
)
_VOCABULARIES = ("tokenizer.json", "vocab.json", "tokenizer.model")
PAD, EOS, BOS, UNKNOWN = "<pad>", "<eos>", "<bos>", "<unk>"


def countdown_tokenizer(max_integer: int = 100) -> PreTrainedTokenizerBase:
    """One token for every integer up to `max_integer` and for each of `+ - * / ( ) = : ,`.

    The words are added tokens, which are found before any splitting rule applies. An integer is matched
    whole, a larger one digit by digit; spaces are swallowed and other characters dropped. Decoding joins
    tokens without spaces.
    """
    words = [*"+-*/()=:,", *map(str, range(max_integer + 1))]
    tokenizer = _qwen2(words)
    tokenizer.add_tokens(
        [AddedToken(w, single_word=w.isdigit(), lstrip=True, normalized=False) for w in words]
    )
    return tokenizer


def byte_tokenizer() -> PreTrainedTokenizerBase:
    """One token a byte of UTF-8: any text in Unicode normal form C, exact round trip, 260 tokens."""
    return _qwen2(sorted(pre_tokenizers.ByteLevel.alphabet()))


def load_tokenizer(directory: str | Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a Hugging Face model directory, never from a hub; tokenizer.json as it is, if any.

    `AutoTokenizer` of transformers 5 picks a class by model_type and tokenizer_class, and classes such as
    `Qwen2Tokenizer` and `LlamaTokenizer` take only vocabulary, merges and post-processor from that file:
    the other rules are their own. That is the identity for Qwen's tokenizers and, as they name no such
    class, for Llama 3's. But R1-Distill-Qwen's, a `LlamaTokenizerFast` beside a `qwen2` config.json, would
    get Qwen's normalizer and splitting rules and one more token, `<|endoftext|>` (seen in 5.23).
    `PreTrainedTokenizerFast` adds to the file only the special tokens, add_bos_token and chat template
    that lie beside it.

    Raises:
      UserError: there is none that loads.
    """
    # Without these, transformers makes an empty tokenizer of the class that config.json suggests.
    if not any((Path(directory) / name).exists() for name in _VOCABULARIES):
        raise UserError(f"no tokenizer in {directory}: it needs {' or '.join(_VOCABULARIES)}")
    try:
        as_it_is = (Path(directory) / "tokenizer.json").exists()
        load = PreTrainedTokenizerFast if as_it_is else AutoTokenizer
        return load.from_pretrained(Path(directory), local_files_only=True)
    except Exception as error:  # what the library raises depends on the broken file
        reason = str(error).partition("\n")[0]
        raise UserError(
            f"no usable tokenizer in {directory}: tokenizer.json and tokenizer_config.json must lie "
            f"beside config.json ({reason})"
        ) from error


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer's files from one model directory into another, byte for byte."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).exists() and source.resolve() != target.resolve():
            shutil.copy(source / name, target / name)


def _qwen2(words: list[str]) -> Qwen2Tokenizer:
    vocabulary = {token: i for i, token in enumerate([PAD, EOS, BOS, UNKNOWN, *words])}
    return Qwen2Tokenizer(
        vocab=vocabulary,
        merges=[],
        pad_token=PAD,
        eos_token=EOS,
        bos_token=BOS,
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
    )
