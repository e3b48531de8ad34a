"""From a problem to the tokens of its prompt."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import dropwhile
from pathlib import Path

import numpy as np
from transformers import PreTrainedTokenizerBase

from riskpo_jax.config import DataConfig
from riskpo_jax.data.chat import Chat, make_chat
from riskpo_jax.data.mixture import select
from riskpo_jax.data.problem import Problem, Source
from riskpo_jax.errors import UserError
from riskpo_jax.types import Prompts


@dataclass(frozen=True)
class PromptEncoder:
    """How a run writes a problem and turns it into tokens.

    The text is the template filled in, a space (unless white space follows anyway) and the answer
    instruction, within `chat` if there is one.

    Attributes:
      max_length: P, tokens of the longest prompt.
      template: for `fill_template`.
      answer_instruction: taken as it is; None for each problem's own.
      chat: None leaves the text alone.
    """

    tokenizer: PreTrainedTokenizerBase
    max_length: int
    template: str = "{problem}"
    answer_instruction: str | None = None
    chat: Chat | None = None

    def text(self, problem: Problem) -> str:
        """The prompt before tokenisation. Raises UserError for a template that does not fit."""
        text = fill_template(self.template, problem)
        own = self.answer_instruction is None
        instruction = problem.instruction if own else self.answer_instruction
        if instruction:
            text = f"{text}{'' if instruction[0].isspace() else ' '}{instruction}"
        return self.chat.render(text) if self.chat else text

    def ids(self, problem: Problem) -> list[int]:
        """The tokens of the prompt, with exactly one BOS in front if the tokenizer adds one or the
        text begins with one.

        Raises:
          UserError: as `text`, and for a prompt without tokens.
        """
        text = self.text(problem)
        ids = self.tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = one_bos(ids, self.tokenizer.bos_token_id, self._adds_bos)
        if not ids:
            raise UserError(f"the prompt {text!r:.60} of problem {problem.id} has no tokens")
        return ids

    def encode(self, problems: Sequence[Problem]) -> Prompts:
        """NumPy int32 tokens[Q, P], right-padded, and lengths[Q].

        Raises:
          UserError: a prompt of more than P tokens; `fitting` keeps those out.
        """
        encoded = [self.ids(problem) for problem in problems]
        for problem, ids in zip(problems, encoded, strict=True):
            self._check_length(problem, ids)
        # The padding is masked by length; its value matters to nobody, but must be in the vocabulary.
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else 0
        tokens_QxP = np.full((len(encoded), self.max_length), pad, np.int32)
        for row, ids in zip(tokens_QxP, encoded, strict=True):
            row[: len(ids)] = ids
        return Prompts(tokens=tokens_QxP, lengths=np.array([len(ids) for ids in encoded], np.int32))

    def fitting(self, source: Source, on_overlong: str) -> tuple[Source, int]:
        """The problems whose prompt has at most P tokens, and how many were skipped.

        `on_overlong` is "skip" or "error". Raises UserError for the first prompt that is too long under
        "error", and when nothing is left under "skip".
        """
        if on_overlong not in ("skip", "error"):
            raise UserError(f"--data.on_overlong={on_overlong}: use skip or error")
        kept = []
        for index in range(len(source)):
            ids = self.ids(source[index])
            if on_overlong == "error":
                self._check_length(source[index], ids)
            if len(ids) <= self.max_length:
                kept.append(index)
        if not kept:
            raise UserError(
                f"none of the {len(source)} problems has a prompt of at most {self.max_length} tokens: "
                "raise --data.max_prompt_length"
            )
        skipped = len(source) - len(kept)
        return (select(source, kept) if skipped else source), skipped

    def _check_length(self, problem: Problem, ids: list[int]) -> None:
        if len(ids) > self.max_length:
            raise UserError(
                f"the prompt of problem {problem.id} has {len(ids)} tokens, --data.max_prompt_length "
                f"is {self.max_length}: raise it, or skip such problems with --data.on_overlong=skip"
            )

    @cached_property
    def _adds_bos(self) -> bool:
        """Whether the tokenizer itself begins a text with BOS, as Llama 3's post-processor does."""
        bos = self.tokenizer.bos_token_id
        return bos is not None and bos in self.tokenizer("")["input_ids"]


def make_prompt_encoder(
    data: DataConfig, tokenizer: PreTrainedTokenizerBase, directory: Path
) -> PromptEncoder:
    """The prompts that `data` describes, for the tokenizer of a model directory.

    Raises:
      UserError: the directory has no chat template and one is asked for.
    """
    system_prompt = line_breaks(data.system_prompt)
    given = data.answer_instruction
    return PromptEncoder(
        tokenizer,
        data.max_prompt_length,
        data.prompt_template,
        None if given is None else line_breaks(given),
        make_chat(data.chat_template, tokenizer, directory, system_prompt, data.thinking),
    )


def fill_template(template: str, problem: Problem) -> str:
    """Fill a `str.format` template: {problem} is the problem's text, other names are metadata keys.

    The template is on one line, see `line_breaks`. Raises UserError for a name that the problem does not
    have, and for a template that is not well formed (braces meant literally are doubled, as in
    \\boxed{{}}).
    """
    values = {**problem.metadata, "problem": problem.text}
    try:
        return line_breaks(template).format_map(values)
    except (KeyError, IndexError, ValueError, AttributeError, TypeError) as error:
        names = ", ".join(f"{{{name}}}" for name in sorted(values))
        raise UserError(
            f"the prompt template {template!r:.200} does not fit problem {problem.id} "
            f"({type(error).__name__}: {error}): allowed are {names}; "
            "write literal braces as {{ and }}"
        ) from error


def line_breaks(text: str) -> str:
    """A text that fits on one line of a flagfile: \\n stands for a line break, two backslashes for one."""
    return re.sub(r"\\([n\\])", lambda m: "\n" if m[1] == "n" else "\\", text)


def one_bos(ids: list[int], bos: int | None, wanted: bool) -> list[int]:
    """`ids` with a single BOS in front where they have any there, or where it is `wanted`."""
    rest = list(dropwhile(lambda token: token == bos, ids))
    return [bos, *rest] if wanted or len(rest) < len(ids) else rest


def eos_ids(
    tokenizer: PreTrainedTokenizerBase, declared: Sequence[int], directory: str | Path
) -> tuple[int, ...]:
    """The tokens that end a response, ascending: the tokenizer's and those that its model declares.

    Raises UserError, which names the model's directory, when there is none: no response could end.
    """
    ids = {tokenizer.eos_token_id, *declared} - {None}
    if not ids:
        raise UserError(
            f"{directory}: neither the tokenizer nor config.json nor generation_config.json names an "
            "end token: set eos_token_id in generation_config.json"
        )
    return tuple(sorted(ids))
