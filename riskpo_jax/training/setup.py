"""From a configuration to the parts of a run. All that can be checked without a device comes first."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from transformers import PreTrainedTokenizerBase

from riskpo_jax.algorithms import quantiles
from riskpo_jax.config import Config
from riskpo_jax.data.problem import Problem
from riskpo_jax.data.prompts import encode_prompts, eos_ids, filter_overlong, format_prompt
from riskpo_jax.data.tokenizers import load_tokenizer
from riskpo_jax.data.sources import make_eval_source
from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.hf import load_params
from riskpo_jax.models.partitioning import abstract_params, init_params, param_shardings
from riskpo_jax.rewards.outcome import Reward
from riskpo_jax.rewards.registry import get_reward
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import MESH_AXES, make_mesh, replicated
from riskpo_jax.training.advantages import tracked_levels
from riskpo_jax.training.optimizer import adamw, learning_rate
from riskpo_jax.training.state import Purpose, TrainState, init_state, purpose_key
from riskpo_jax.types import Prompts


@dataclass(frozen=True)
class Policy:
    """What speaks: model, tokenizer, the tokens that end a response, and how prompts are written."""

    config: Config
    model: Decoder
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    generation_config: dict[str, Any]

    def encode(self, problems: list[Problem]) -> Prompts:
        """Host arrays [Q, max_prompt_length] of the problems' prompts."""
        data = self.config.data
        texts = [format_prompt(data.prompt_template, problem) for problem in problems]
        return encode_prompts(self.tokenizer, texts, data.max_prompt_length, data.chat)

    def fitting(self, source):
        """The problems whose prompts fit, and how many were skipped (`--data.on_overlong`)."""
        data = self.config.data
        return filter_overlong(
            source,
            self.tokenizer,
            data.prompt_template,
            data.max_prompt_length,
            data.on_overlong,
            data.chat,
        )


@dataclass(frozen=True)
class EvalSet:
    """Evaluation problems and their prompts."""

    name: str
    problems: list[Problem]
    prompts: Prompts


def load_policy(config: Config) -> Policy:
    """Reads config.json and the tokenizer; no weights yet.

    Raises:
      UserError: a directory that is missing or lacks a file, or an unsupported architecture.
    """
    directory = Path(config.model.path)
    if not directory.is_dir():
        raise UserError(f"--model.path={directory} is not a directory with a Hugging Face model")
    decoder_config = DecoderConfig.from_directory(directory)
    tokenizer = load_tokenizer(directory)
    if len(tokenizer) > decoder_config.vocab_size:
        raise UserError(
            f"{directory}: the tokenizer has {len(tokenizer)} tokens but config.json a vocab_size of "
            f"{decoder_config.vocab_size}: use the tokenizer that belongs to the model"
        )
    generation_path = directory / "generation_config.json"
    generation = json.loads(generation_path.read_text()) if generation_path.exists() else {}
    model = Decoder(
        decoder_config,
        dtype=jnp.dtype(config.model.compute_dtype),
        param_dtype=jnp.dtype(config.model.param_dtype),
        remat=config.model.remat,
    )
    return Policy(config, model, tokenizer, eos_ids(tokenizer, generation), generation)


def load_eval_set(config: Config, policy: Policy) -> EvalSet | None:
    """The evaluation problems with prompts that fit; None when the configuration names none."""
    source = make_eval_source(config)
    if source is None:
        return None
    source, _ = policy.fitting(source)
    problems = [source[i] for i in range(len(source))]
    return EvalSet(problems[0].dataset, problems, policy.encode(problems))


def load_reward(config: Config) -> Reward:
    return get_reward(config.reward.name)


def load_mesh(config: Config) -> Mesh:
    """The mesh over all devices.

    Raises:
      UserError: sizes that do not divide the devices, or batches that do not divide over the mesh.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor)
    shards = mesh.shape[MESH_AXES[0]] * mesh.shape[MESH_AXES[1]]
    rows = {
        "data.questions_per_step": config.data.questions_per_step,
        "eval.batch_size": config.eval.batch_size,
    }
    if config.train.stage == "supervised":
        rows = {"train.batch_size": config.train.batch_size}
    for name, count in rows.items():
        if count % shards:
            raise UserError(f"--{name}={count} does not divide over the mesh's {shards} data shards")
    return mesh


def load_or_init_params(config: Config, policy: Policy, mesh: Mesh) -> Any:
    """The initial policy's parameters on the mesh, from the directory or drawn from the seed."""
    if config.model.init == "random":
        key_data = jax.random.key_data(jax.random.key(config.seed))
        return init_params(policy.model, purpose_key(key_data, Purpose.INIT, 0), mesh)
    shardings = param_shardings(abstract_params(policy.model), mesh)
    dtype = jnp.dtype(config.model.param_dtype)
    return load_params(config.model.path, policy.model.config, dtype, shardings)


def make_optimizer(config: Config) -> optax.GradientTransformation:
    train = config.train
    updates = train.steps * train.epochs * train.minibatches
    schedule = learning_rate(train.learning_rate, train.warmup_steps, train.schedule, updates)
    return adamw(
        schedule,
        b1=train.adam_b1,
        b2=train.adam_b2,
        eps=train.adam_eps,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
    )


def make_state(
    config: Config, params: Any, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The state before the first step, on the mesh: moments placed like their parameters."""
    tracker = quantiles.init(len(tracked_levels(config.algorithm)))
    abstract = jax.eval_shape(lambda p: init_state(p, optimizer, tracker, config.seed), params)
    whole = replicated(mesh)
    shardings = jax.tree.map(lambda _: whole, abstract).replace(
        params=jax.tree.map(lambda x: x.sharding, params),
        opt_state=optax.tree_map_params(
            optimizer,
            lambda _, param: param.sharding,
            abstract.opt_state,
            params,
            transform_non_params=lambda _: whole,
        ),
    )
    create = jax.jit(
        lambda p: init_state(p, optimizer, tracker, config.seed), out_shardings=shardings
    )
    return create(params)


def eval_sampling(config: Config) -> SamplingParams:
    return SamplingParams(config.eval.temperature, config.eval.top_k, config.eval.top_p)


def rollout_sampling(config: Config) -> SamplingParams:
    return SamplingParams(
        config.rollout.temperature, config.rollout.top_k, config.rollout.top_p
    )


def make_sampler(config: Config, policy: Policy, mesh: Mesh) -> Sampler:
    return Sampler(policy.model, mesh, config.rollout.max_response_length, policy.eos_ids)
