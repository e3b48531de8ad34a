"""Tokenizers: loading those of model directories, and two built on the spot for small models.

Both of ours are Qwen2 tokenizers, because transformers 5 rebuilds the tokenizer of every directory whose
config.json says `qwen2` with Qwen2's own splitting rules. So `AutoTokenizer` reads them anywhere as we do.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from tokenizers import AddedToken, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2Tokenizer

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
    """The tokenizer of a Hugging Face model directory, never from a hub.

    Raises:
      UserError: there is none that loads.
    """
    # Without these, transformers makes an empty tokenizer of the class that config.json suggests.
    if not any((Path(directory) / name).exists() for name in _VOCABULARIES):
        raise UserError(f"no tokenizer in {directory}: it needs {' or '.join(_VOCABULARIES)}")
    try:
        return AutoTokenizer.from_pretrained(Path(directory), local_files_only=True)
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
