"""What makes a configuration whole and consistent: presets filled in, values and combinations checked."""

from __future__ import annotations

import dataclasses
import math

from riskpo_jax.config import Config, LoraConfig, get, leaves
from riskpo_jax.config_presets import fill_preset
from riskpo_jax.errors import UserError


def resolve(config: Config) -> Config:
    """The configuration with the preset's choices filled in, checked for contradictions.

    Raises:
      UserError: a value out of range or two settings that contradict each other, by flag name.
    """
    _check_choices(config)
    resolved = dataclasses.replace(config, algorithm=fill_preset(config.algorithm))
    _check_ranges(resolved)
    _check_batches(resolved)
    _check_algorithm(resolved)
    _check_sources(resolved)
    _check_sets(resolved)
    _check_reward(resolved)
    _check_lora(resolved)
    _check_prompts(resolved)
    return resolved


def _check_choices(config: Config) -> None:
    for name, field, _ in leaves():
        value, choices = get(config, name), field.metadata["choices"]
        if choices and value is not None and value not in choices:
            raise UserError(f"--{name}={value!r} is not one of {', '.join(choices)}")


_AT_LEAST_ONE = (
    "data.size",
    "data.max_prompt_length",
    "data.questions_per_step",
    "data.max_number",
    "data.max_target",
    "rollout.group_size",
    "rollout.max_response_length",
    "algorithm.bundle_size",
    "train.epochs",
    "train.minibatches",
    "train.batch_size",
    "rollout.steps_per_sync",
    "eval.problems",
    "eval.samples",
    "eval.batch_size",
    "checkpoint.every",
    "checkpoint.keep_last",
    "report.samples_every",
)
_POSITIVE = (
    "rollout.temperature",
    "train.learning_rate",
    "train.max_grad_norm",
    "train.adam_eps",
    "algorithm.tracker_step_size",
    "algorithm.tracker_tau",
    "lora.alpha",
    "reward.timeout_s",
    "reward.code_timeout_s",
)
_NOT_NEGATIVE = (
    "seed",
    "lora.rank",
    "rollout.top_k",
    "eval.top_k",
    "eval.temperature",
    "eval.every",
    "train.steps",
    "train.warmup_steps",
    "train.weight_decay",
    "model.unroll",
    "train.tokens_per_micro_batch",
    "rollout.slots",
    "rollout.tensor",
    "data.max_problem_chars",
    "data.contamination_ngram",
    "algorithm.omega",
    "algorithm.clip_low",
    "algorithm.clip_high",
    "algorithm.kl_coef",
    "algorithm.entropy_coef",
    "algorithm.tracker_power",
    "checkpoint.keep_best",
    "report.samples",
    "reward.workers",
)


def _check_ranges(config: Config) -> None:
    texts = [name for name, _, _ in leaves() if isinstance(get(config, name), str)]
    for names, holds, rule in (
        (_AT_LEAST_ONE, lambda v: v is None or v >= 1, "at least 1"),
        (_POSITIVE, lambda v: v > 0, "greater than 0"),
        (_NOT_NEGATIVE, lambda v: v >= 0, "at least 0"),
        (("rollout.top_p", "eval.top_p"), lambda v: 0 < v <= 1, "in (0, 1]"),
        (("reward.format_credit",), lambda v: 0 <= v < 1, "in [0, 1)"),
        (
            ("reward.memory_mb", "reward.code_memory_mb"),
            lambda v: v >= 128,
            "at least 128: Python itself takes a part of it",
        ),
        (("train.adam_b1", "train.adam_b2"), lambda v: 0 <= v < 1, "in [0, 1)"),
        (("eval.k",), lambda v: len(v) and min(v) >= 1, "a list of numbers of at least 1"),
        (("data.levels",), len, "a list of at least one level"),
        (("seed",), lambda v: v < 2**32, "less than 2^32"),
        # What else a text holds, run.flags could not give back.
        (texts, _fits_a_flagfile, r"one line with no space at its end (a prompt template has \n)"),
        (("data.weights",), lambda v: all(0 < w < math.inf for w in v), "numbers greater than 0"),
        (
            ("data.path",),
            lambda v: all(map(_fits_a_list, v)),
            "names of files without comma or quote",
        ),
        (
            ("data.sets", "data.columns", "data.keep_levels", "data.task_options", "eval.datasets"),
            lambda v: all(map(_fits_a_list, v)),
            "names without comma or quote",
        ),
    ):
        for name in names:
            if not holds(get(config, name)):
                raise UserError(f"--{name}={get(config, name)!r} must be {rule}")


def _fits_a_flagfile(text: str) -> bool:
    return text == text.rstrip() and not set("\r\n") & set(text)


def _fits_a_list(item: str) -> bool:
    return item != "" and item == item.strip() and not set(',"\r\n') & set(item)


def _check_batches(config: Config) -> None:
    data, algorithm, train, evaluation = config.data, config.algorithm, config.train, config.eval
    if data.questions_per_step % algorithm.bundle_size:
        raise UserError(
            f"--algorithm.bundle_size={algorithm.bundle_size} does not divide "
            f"--data.questions_per_step={data.questions_per_step}"
        )
    if data.questions_per_step % train.minibatches:
        raise UserError(
            f"--train.minibatches={train.minibatches} does not divide "
            f"--data.questions_per_step={data.questions_per_step}"
        )
    if max(evaluation.k) > evaluation.samples:
        raise UserError(
            f"--eval.k={','.join(map(str, evaluation.k))} asks for more than "
            f"--eval.samples={evaluation.samples} responses"
        )


def _check_algorithm(config: Config) -> None:
    algorithm = config.algorithm
    if not 0 < algorithm.alpha < algorithm.beta <= 1:
        raise UserError(
            f"--algorithm.alpha={algorithm.alpha} and --algorithm.beta={algorithm.beta} must satisfy "
            "0 < alpha < beta <= 1"
        )
    if algorithm.preset != "paper":
        for name in ("credit", "baseline"):
            if getattr(algorithm, name) is not None:
                raise UserError(
                    f"--algorithm.{name} belongs to --algorithm.preset=paper and contradicts "
                    f"--algorithm.preset={algorithm.preset}"
                )
        for name, default in (("profile", "averse"), ("levels", "fixed")):
            if getattr(algorithm, name) != default:
                raise UserError(
                    f"--algorithm.{name}={getattr(algorithm, name)} belongs to --algorithm.preset=paper "
                    f"and contradicts --algorithm.preset={algorithm.preset}"
                )
    if algorithm.levels == "adaptive" and algorithm.profile != "averse":
        raise UserError(
            "--algorithm.levels=adaptive places the tails of --algorithm.profile=averse and contradicts "
            f"--algorithm.profile={algorithm.profile}"
        )
    relative = algorithm.preset in ("grpo", "dr_grpo", "rloo", "dapo", "gspo") or (
        algorithm.credit == "expected" and algorithm.baseline != "none"
    )
    if relative and config.rollout.group_size < 2 and config.train.stage == "rl":
        raise UserError(
            "--rollout.group_size=1 leaves nothing to compare a response with: all advantages would "
            "be 0 under this preset, credit and baseline"
        )


def _check_sources(config: Config) -> None:
    data = config.data
    if data.source == "jsonl" and not data.path:
        raise UserError("--data.source=jsonl needs --data.path, one or more files of problems")
    if data.source == "reasoning_gym" and not data.task:
        raise UserError("--data.source=reasoning_gym needs --data.task, such as chain_sum")
    if data.task_options and data.source != "reasoning_gym":
        raise UserError(
            f"--data.task_options={','.join(data.task_options)} are of --data.source=reasoning_gym and "
            f"contradict --data.source={data.source}: leave them out"
        )
    if data.source == "jsonl" and config.reward.name == "auto":
        raise UserError(
            f"--data.path={','.join(data.path)} names no reward: give --reward.name (math, code, or your "
            "own as package.module:function)"
        )
    for name in ("countdown", "reasoning_gym"):
        if config.reward.name == name and data.source not in (name, "sets"):
            raise UserError(
                f"--reward.name={name} grades problems of --data.source={name}, not of "
                f"--data.source={data.source}: choose another reward"
            )


def _check_sets(config: Config) -> None:
    data = config.data
    if data.source == "sets" and not data.sets:
        raise UserError("--data.source=sets needs --data.sets, such as gsm8k,math")
    if data.sets and data.source != "sets":
        raise UserError(
            f"--data.sets={','.join(data.sets)} contradicts --data.source={data.source}: give "
            "--data.source=sets"
        )
    if data.weights and len(data.weights) != len(data.sets):
        raise UserError(
            f"--data.weights={','.join(map(str, data.weights))} must be one for each of the "
            f"{len(data.sets)} --data.sets"
        )
    for flag, texts in (("data.sets", data.sets), ("eval.datasets", config.eval.datasets)):
        if repeated := [text for text in texts if texts.count(text) > 1]:
            raise UserError(
                f"--{flag} names {repeated[0]} twice: leave one out"
                + (", --data.weights repeat a set" if flag == "data.sets" else "")
            )
    if data.drop_contaminated and not data.contamination_ngram:
        raise UserError(
            "--data.drop_contaminated needs the check that --data.contamination_ngram=0 turns off"
        )


def _check_reward(config: Config) -> None:
    reward = config.reward
    if reward.isolate and ":" not in reward.name:
        raise UserError(
            "--reward.isolate is for a reward of your own (--reward.name=package.module:function); "
            f"--reward.name={reward.name} runs in worker processes where it should"
        )


def _check_lora(config: Config) -> None:
    lora = config.lora
    names = LoraConfig().matrices
    if not lora.matrices or not set(lora.matrices) <= set(names):
        raise UserError(
            f"--lora.matrices={','.join(lora.matrices)} must be one or more of {', '.join(names)}"
        )
    for name, default in (("alpha", LoraConfig().alpha), ("matrices", names)):
        if not lora.rank and getattr(lora, name) != default:
            raise UserError(f"--lora.{name} without --lora.rank trains no adapters: give a rank")
    if lora.path and not lora.rank:
        raise UserError(
            f"--lora.path={lora.path} without --lora.rank, the rank of its adapters: give both"
        )


def _check_prompts(config: Config) -> None:
    data = config.data
    if data.system_prompt and data.chat_template == "none":
        raise UserError(
            "--data.system_prompt is a message of a chat template and contradicts "
            "--data.chat_template=none: give model or plain"
        )
    if not data.thinking and data.chat_template != "model":
        raise UserError(
            "--data.thinking=false is told to a model's own chat template and contradicts "
            f"--data.chat_template={data.chat_template}: give model"
        )
