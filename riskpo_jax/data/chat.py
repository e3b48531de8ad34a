"""Chat templates: a prompt as the opening of a conversation, in the words that the model was tuned on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedTokenizerBase

from riskpo_jax.errors import UserError

# For base models, which have none. It speaks no special tokens, so that it suits any vocabulary.
PLAIN = (
    "{% for message in messages %}"
    "{{ 'User: ' if message.role == 'user' else '' }}{{ message.content }}\n\n"
    "{% endfor %}"
    "Assistant:"
)
# Llama 3.2's template writes today's date where it is given none, and a run that is resumed tomorrow would
# see other prompts. This is the date that Llama 3.1's falls back to.
DATE = "26 Jul 2024"


@dataclass(frozen=True)
class Chat:
    """A chat template with what it is told besides the prompt.

    Attributes:
      template: Jinja text, or None for the tokenizer's own.
      file: where the tokenizer's own stands, to name it in the errors that it raises.
      system_prompt: the first message; none when empty.
      thinking: passed to the template as `enable_thinking` (Qwen3's closes its think block at False).
    """

    tokenizer: PreTrainedTokenizerBase
    template: str | None
    file: Path
    system_prompt: str = ""
    thinking: bool = True

    def render(self, text: str) -> str:
        """The conversation up to the point where the model answers the user's message `text`.

        Where to put a BOS is the template's to say: one written in a message is left out.

        Raises:
          UserError: the tokenizer's own template fails, as some do on purpose (`raise_exception`), say
            on a system message.
        """
        messages = [("system", self.system_prompt)] if self.system_prompt else []
        messages.append(("user", text))
        bos = self.tokenizer.bos_token
        try:
            return self.tokenizer.apply_chat_template(
                [{"role": r, "content": t.replace(bos, "") if bos else t} for r, t in messages],
                chat_template=self.template,
                enable_thinking=self.thinking,
                date_string=DATE,
                add_generation_prompt=True,
                tokenize=False,
            )
        except Exception as error:  # a template can run into any error
            if self.template is not None or isinstance(error, ImportError):  # not its own
                raise
            reason = str(error).partition("\n")[0] or type(error).__name__
            less = "leave out --data.system_prompt, " if self.system_prompt else ""
            raise UserError(
                f"the chat template in {self.file} raises an error ({reason}): correct it, {less}or "
                "give --data.chat_template=plain"
            ) from error


def make_chat(
    choice: str,
    tokenizer: PreTrainedTokenizerBase,
    directory: Path,
    system_prompt: str = "",
    thinking: bool = True,
) -> Chat | None:
    """What `--data.chat_template` names: "none", the "model"'s own template, or the "plain" one.

    Raises:
      UserError: the model's own is asked of a tokenizer without one.
    """
    if choice == "none":
        return None
    jinja = directory / "chat_template.jinja"  # transformers prefers it too
    file = jinja if jinja.exists() else directory / "tokenizer_config.json"
    if choice == "model" and not tokenizer.chat_template:
        raise UserError(
            f"the tokenizer in {directory} has no chat template (chat_template.jinja, or chat_template "
            "in tokenizer_config.json): give --data.chat_template=plain"
        )
    return Chat(tokenizer, PLAIN if choice == "plain" else None, file, system_prompt, thinking)
