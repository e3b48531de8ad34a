"""A policy as a Hugging Face directory, with all that another program needs to speak as it does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from riskpo_jax.data.chat import PLAIN
from riskpo_jax.data.tokenizers import copy_tokenizer, declare_class
from riskpo_jax.models.hf import save_pretrained
from riskpo_jax.training.setup import Policy


def write_model(
    folder: Path,
    policy: Policy,
    params: Any,
    dtype=None,
    max_shard_bytes: int = 5_000_000_000,
) -> bool:
    """Writes config, generation config, tokenizer and weights of `params` into an empty folder.

    params: the model's, without adapters. dtype: of the weights in the files, by default theirs. The
    tokenizer's files are copied as they are, if need be with another class (`declare_class`); a policy
    trained with `--data.chat_template=plain` gets that template beside them. Returns whether
    `AutoTokenizer` makes the policy's tokens of a text; if not, say READ_OTHERWISE.
    """
    copy_tokenizer(Path(policy.config.model.path), folder)
    if policy.config.data.chat_template == "plain":
        (folder / "chat_template.jinja").write_text(PLAIN)
    save_pretrained(
        folder,
        params,
        policy.model.config,
        dtype,
        generation_config=generation_config(policy),
        max_shard_bytes=max_shard_bytes,
    )
    return declare_class(folder, policy.tokenizer)


def generation_config(policy: Policy) -> dict[str, Any] | None:
    """The model's own, stopping at every token that ends a response here; None if that is nothing."""
    stored, config = policy.generation_config, policy.model.config
    special = {"bos_token_id": config.bos_token_id, "pad_token_id": config.pad_token_id}
    result = stored or {name: id for name, id in special.items() if id is not None}
    eos = stored.get("eos_token_id")
    listed = eos if isinstance(eos, list) else [] if eos is None else [eos]
    if not {*policy.eos_ids} <= {*listed}:
        result = result | {"eos_token_id": list(dict.fromkeys([*listed, *policy.eos_ids]))}
    return result or None
