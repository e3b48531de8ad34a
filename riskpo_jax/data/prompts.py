"""From a problem to the tokens of its prompt."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from transformers import PreTrainedTokenizerBase

from riskpo_jax.data.problem import Problem, Source, Subset
from riskpo_jax.errors import UserError
from riskpo_jax.types import Prompts


def format_prompt(template: str, problem: Problem) -> str:
    """Fill a `str.format` template: {problem} is the problem's text, other names are metadata keys.

    So that a template fits on one line of a flagfile, \\n stands for a line break and two backslashes
    for one. Raises UserError for a name that the problem does not have, and for a template that is not well
    formed (braces meant literally are doubled, as in \\boxed{{}}).
    """
    values = {**problem.metadata, "problem": problem.text}
    one_line = re.sub(r"\\([n\\])", lambda m: "\n" if m[1] == "n" else "\\", template)
    try:
        return one_line.format_map(values)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        names = ", ".join(f"{{{name}}}" for name in sorted(values))
        raise UserError(
            f"the prompt template {template!r:.200} does not fit problem {problem.id} "
            f"({type(error).__name__}: {error}): allowed are {names}; "
            "write literal braces as {{ and }}"
        ) from error


def encode_prompt(tokenizer: PreTrainedTokenizerBase, text: str, chat: bool = False) -> list[int]:
    """The tokens of one prompt; with `chat`, of one user message in the tokenizer's chat template.

    A template writes its own BOS, so its text is tokenised once without adding another. Raises
    UserError when `chat` is asked of a tokenizer without a template, or when the prompt has no
    tokens.
    """
    if chat:
        if not tokenizer.chat_template:
            raise UserError(
                "the tokenizer has no chat template: give --data.chat=false or add a template"
            )
        messages = [{"role": "user", "content": text}]
        rendered = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, tokenize=False
        )
        ids = tokenizer(rendered, add_special_tokens=False)["input_ids"]
    else:
        ids = tokenizer(text)["input_ids"]
    if not ids:
        raise UserError(f"the prompt {text!r:.60} has no tokens")
    return list(ids)


def encode_prompts(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], max_length: int, chat: bool = False
) -> Prompts:
    """NumPy int32 tokens[Q, max_length], left-padded, and lengths[Q].

    Raises UserError for a prompt longer than `max_length`; `filter_overlong` keeps those out.
    """
    encoded = [encode_prompt(tokenizer, text, chat) for text in texts]
    lengths_Q = np.array([len(ids) for ids in encoded], np.int32)
    if lengths_Q.max(initial=0) > max_length:
        raise UserError(
            f"the prompt {texts[int(lengths_Q.argmax())]!r:.60} has {lengths_Q.max()} tokens: raise "
            f"--data.max_prompt_length={max_length}"
        )
    # The padding is masked by length; its value matters to nobody, but must be in the vocabulary.
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    tokens_QxP = np.full((len(encoded), max_length), pad, np.int32)
    for row, ids in zip(tokens_QxP, encoded, strict=True):
        row[max_length - len(ids) :] = ids
    return Prompts(tokens=tokens_QxP, lengths=lengths_Q)


def filter_overlong(
    source: Source,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
    max_length: int,
    on_overlong: str,
    chat: bool = False,
) -> tuple[Source, int]:
    """The problems whose prompt has at most `max_length` tokens, and how many were skipped.

    `on_overlong` is "skip" or "error". Raises UserError for the first prompt that is too long under
    "error", and when nothing is left under "skip".
    """
    if on_overlong not in ("skip", "error"):
        raise UserError(f"--data.on_overlong={on_overlong}: use skip or error")
    kept = []
    for index in range(len(source)):
        problem = source[index]
        length = len(encode_prompt(tokenizer, format_prompt(template, problem), chat))
        if length <= max_length:
            kept.append(index)
        elif on_overlong == "error":
            raise UserError(
                f"the prompt of problem {problem.id} has {length} tokens, --data.max_prompt_length "
                f"is {max_length}: raise it, or skip such problems with --data.on_overlong=skip"
            )
    if not kept:
        raise UserError(
            f"none of the {len(source)} problems has a prompt of at most {max_length} tokens: "
            "raise --data.max_prompt_length"
        )
    skipped = len(source) - len(kept)
    return (Subset(source, kept) if skipped else source), skipped


def eos_ids(
    tokenizer: PreTrainedTokenizerBase,
    generation_config: Mapping[str, Any] | None = None,
    model_eos_ids: Sequence[int] = (),
) -> tuple[int, ...]:
    """The tokens that end a response, ascending: the tokenizer's and those of the model's two configs.

    Raises UserError when there is none: no response could end.
    """
    declared = (generation_config or {}).get("eos_token_id")
    ids = set(declared) if isinstance(declared, list | tuple) else {declared}
    ids = (ids | {tokenizer.eos_token_id, *model_eos_ids}) - {None}
    if not ids:
        raise UserError(
            "neither the tokenizer nor generation_config.json names an end token (eos_token_id)"
        )
    return tuple(sorted(ids))
