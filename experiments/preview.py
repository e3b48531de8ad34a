"""What a program shows before it uses a model: the first things to check."""

from __future__ import annotations

from riskpo_jax.data.problem import Problem
from riskpo_jax.training import setup


def what_the_model_sees(policy: setup.Policy, problem: Problem) -> list[str]:
    """A prompt token for token, and the tokens that end a response: the first things to check in a run."""
    ends = policy.tokenizer.convert_ids_to_tokens(policy.eos_ids)
    named = ", ".join(f"{token} ({i})" for token, i in zip(ends, policy.eos_ids, strict=True))
    lines = [
        f"prompt of {problem.id}: {policy.tokenizer.decode(policy.prompts.ids(problem))!r}",
        f"responses end at {named}",
    ]
    own, declared = policy.tokenizer.eos_token_id, policy.model.config.eos_token_ids
    if own is not None and declared and own not in declared:
        lines.append(
            f"warning: config.json ends responses at {list(declared)}, the tokenizer at {own}: is it "
            "the tokenizer of this model?"
        )
    return lines
