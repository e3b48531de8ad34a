"""How a model is evaluated by itself: what is asked for, else as its run did, else as suits it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from riskpo_jax.config import Config, EvalConfig, from_flat, leaves, to_flat
from riskpo_jax.config_rules import resolve
from riskpo_jax.data.sources import make_eval_sources
from riskpo_jax.data.tokenizers import load_tokenizer
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.training.setup import Policy
from riskpo_jax.training.source import Source

RESPONSE_LENGTH = 1024  # of a model that no run gives a limit; half its context if that is less
_DATA = (
    *("eval.datasets", "data.source", "data.sets", "data.task", "data.eval_path"),
    *("data.task_options", "data.levels", "data.max_number", "data.max_target"),
)
_OF_TRAINING = ("lora.", "model.init")  # how weights came to be, which are now read as they are
_PROMPT_LENGTH = "data.max_prompt_length"
_STEP = 64  # tokens; prompt lengths are rounded up to a multiple, so that few shapes are compiled


def evaluation_config(source: Source, given: Mapping[str, Any]) -> tuple[Config, bool]:
    """The settings to evaluate `source` with, and whether the prompt length is left to `fit_prompts`.

    Those of `given` come first, but how the weights came to be is the source's to say. Of a run the rest
    is as the run has it. A model directory has its own chat template, if there is one. What other data
    than the run's decide, they decide: what grades, and the length of prompts.

    Raises:
      UserError: settings that contradict each other, or no usable tokenizer.
    """
    given = {k: v for k, v in given.items() if not k.startswith(_OF_TRAINING)}
    if source.run is None:
        values, other_data = _directory_settings(source), True
        given["model.path"] = source.config.model.path
    else:
        values, other_data = _run_settings(source, given)
    values |= given
    open_length = other_data and _PROMPT_LENGTH not in given
    if open_length:
        values[_PROMPT_LENGTH] = 1
    if "eval.k" not in given:
        samples = values.get("eval.samples", EvalConfig().samples)
        fitting = [k for k in values.get("eval.k", EvalConfig().k) if k <= samples]
        values["eval.k"] = tuple(fitting) or (1,)
    return resolve(from_flat(values)), open_length


def fit_prompts(policy: Policy) -> Policy:
    """The policy with room for the longest prompt of its evaluation sets, as far as its context allows."""
    lengths = [
        len(policy.prompts.ids(source[i]))
        for source in make_eval_sources(policy.config).values()
        for i in range(len(source))
    ]
    context = policy.model.config.max_position_embeddings
    room = context - policy.config.rollout.max_response_length
    length = max(1, min(-(-max(lengths, default=1) // _STEP) * _STEP, room))
    data = dataclasses.replace(policy.config.data, max_prompt_length=length)
    return dataclasses.replace(policy, config=dataclasses.replace(policy.config, data=data))


def _run_settings(source: Source, given: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """The run's own settings, rid of what does not go with other data, and whether other data are given."""
    values = to_flat(source.config)
    changed = {name for name in _DATA if name in given and _plain(given[name]) != values[name]}
    if changed:
        values["reward.name"] = "auto"
    if "eval.datasets" in changed:  # not the run's files beside them
        values["data.eval_path"] = ""
        if values["data.source"] == "jsonl":
            values |= {"data.source": "sets", "data.sets": given["eval.datasets"]}
    elif "data.eval_path" in changed:  # nor its sets beside a file
        values["eval.datasets"] = ()
    return values, bool(changed)


def _directory_settings(source: Source) -> dict[str, Any]:
    directory = Path(source.config.model.path)
    choices = next(f for name, f, _ in leaves() if name == "model.param_dtype").metadata["choices"]
    stored = source.config.model.param_dtype
    context = DecoderConfig.from_directory(directory).max_position_embeddings
    return {
        "model.param_dtype": stored if stored in choices else "float32",
        "data.chat_template": "model" if load_tokenizer(directory).chat_template else "none",
        "rollout.max_response_length": max(1, min(RESPONSE_LENGTH, context // 2)),
    }


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
