"""Tokenizers: loading those of model directories, and two built on the spot for small models.

Both of ours are Qwen2 tokenizers, so that transformers' `AutoTokenizer` reads them anywhere as we do.
"""

from __future__ import annotations

import json
import shutil
import string
from collections.abc import Iterable
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
# What splitting rules and normalizers tell apart: digits, contractions, white space, composed letters.
_PROBE = "I'LL add 1234567+89,\n\n   cafe\u0301 (caf\u00e9):\tna\u00efve \u3042\r\n"
READ_OTHERWISE = (
    "transformers' AutoTokenizer reads this tokenizer.json by rules of another class; "
    "PreTrainedTokenizerFast.from_pretrained reads it as it is"
)
PAD, EOS, BOS, UNKNOWN = "<pad>", "<eos>", "<bos>", "<unk>"


def countdown_tokenizer(max_integer: int = 100) -> PreTrainedTokenizerBase:
    """One token for every integer up to `max_integer` and for each of `+ - * / ( ) = : ,`.

    A larger integer is read digit by digit.
    """
    return word_tokenizer([*"+-*/()=:,", *map(str, range(max_integer + 1))])


def letter_tokenizer() -> PreTrainedTokenizerBase:
    """One token for each letter from a to z."""
    return word_tokenizer(f"{string.ascii_lowercase}:")


def sudoku_tokenizer() -> PreTrainedTokenizerBase:
    """For grids of 4 x 4 digits: a digit is one token with the space or line break after it; 0 is empty."""
    return word_tokenizer([*(digit + end for digit in "01234" for end in ("", " ", "\n")), ":"])


def grid_path_tokenizer() -> PreTrainedTokenizerBase:
    """For paths in grids: a cell (X O * #) or a move is one token with the space or line break after it."""
    cells = (cell + end for cell in "XO*#" for end in ("", " ", "\n"))
    moves = (move + end for move in ("up", "down", "left", "right") for end in ("", " "))
    return word_tokenizer([*cells, *moves, "infeasible", ":"])


def word_tokenizer(words: Iterable[str]) -> PreTrainedTokenizerBase:
    """One token for each of `words`; the longest that fits is taken.

    The words are added tokens, which are found before any splitting rule applies. An integer is matched
    whole; spaces before a word are swallowed and other characters dropped. Decoding joins tokens without
    spaces.
    """
    words = list(words)
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
    directory = Path(directory)
    vocabulary = vocabulary_file(directory)
    load = PreTrainedTokenizerFast if vocabulary.name == "tokenizer.json" else AutoTokenizer
    try:
        return load.from_pretrained(directory, local_files_only=True)
    except Exception as error:  # what the library raises depends on the broken file
        _check_files(directory)
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise UserError(
            f"no usable tokenizer in {directory} ({reason}): copy {vocabulary.name} and the files that "
            "belong to it again"
        ) from error


def vocabulary_file(directory: Path) -> Path:
    """The file with the directory's tokens.

    Raises UserError where there is none: transformers would make up an empty tokenizer.
    """
    files = (directory / name for name in _VOCABULARIES)
    if found := next((file for file in files if file.exists()), None):
        return found
    raise UserError(f"no tokenizer in {directory}: it needs {' or '.join(_VOCABULARIES)}")


def _check_files(directory: Path) -> None:
    """Raises UserError for the first of the tokenizer's files that cannot be read for itself."""
    for file in (directory / name for name in TOKENIZER_FILES):
        if not file.exists() or file.suffix not in (".json", ".jinja"):
            continue
        try:
            text = file.read_text("utf-8")
            if file.suffix == ".json" and not isinstance(json.loads(text), dict):
                raise ValueError("no JSON object")
        except (OSError, ValueError) as error:
            raise UserError(f"{file} is broken ({error}): copy it again") from error


def copy_tokenizer(source: Path, target: Path) -> None:
    """Copies the tokenizer's files from one model directory into another, byte for byte."""
    target.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        if (source / name).exists() and source.resolve() != target.resolve():
            shutil.copy(source / name, target / name)


def declare_class(directory: Path, tokenizer: PreTrainedTokenizerBase) -> bool:
    """Whether `AutoTokenizer` reads a model directory as `tokenizer`, which `load_tokenizer` read.

    Where it does not at first, tokenizer_config.json gets the class that takes tokenizer.json as it is.
    Beside a `qwen2` config.json transformers 5.23 goes by Qwen's rules whatever class is named.
    """
    if _auto_reads(directory, tokenizer):
        return True
    file = directory / "tokenizer_config.json"
    settings = json.loads(file.read_text("utf-8")) if file.exists() else {}
    settings["tokenizer_class"] = "PreTrainedTokenizerFast"
    file.write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n", "utf-8")
    return _auto_reads(directory, tokenizer)


def _auto_reads(directory: Path, tokenizer: PreTrainedTokenizerBase) -> bool:
    try:
        theirs = AutoTokenizer.from_pretrained(
            directory, local_files_only=True, trust_remote_code=False
        )
    except Exception:  # a class that does not load, whatever for, does not agree
        return False
    return theirs(_PROBE)["input_ids"] == tokenizer(_PROBE)["input_ids"]


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
