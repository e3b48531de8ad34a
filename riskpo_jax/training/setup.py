"""From a configuration to the parts of a run. All that can be checked without a device comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from rich.console import Console
from transformers import PreTrainedTokenizerBase

from riskpo_jax.algorithms import quantiles
from riskpo_jax.config import Config
from riskpo_jax.data.problem import Problem, Source
from riskpo_jax.data.prompts import PromptEncoder, eos_ids, make_prompt_encoder
from riskpo_jax.data.sources import make_eval_sources
from riskpo_jax.data.tokenizers import load_tokenizer, vocabulary_file
from riskpo_jax.errors import UserError
from riskpo_jax.evaluation.evaluator import EvalSet, Evaluator
from riskpo_jax.models import peft
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.config_json import JsonObject
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.flash_attention import make_attention
from riskpo_jax.models.hf import open_checked
from riskpo_jax.models.lora import Lora
from riskpo_jax.reporting.run_dir import RunDir
from riskpo_jax.rewards.grader import Grader
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.sampler import Sampler
from riskpo_jax.rollout.sampling import SamplingParams
from riskpo_jax.sharding import data_shards, make_mesh, replicated, rollout_mesh
from riskpo_jax.training.advantages import tracked_levels
from riskpo_jax.training.micro_batches import Budget
from riskpo_jax.training.optimizer import adamw, learning_rate
from riskpo_jax.training.rounding import with_moment_dtype
from riskpo_jax.training.state import Purpose, TrainState, init_state, purpose_key
from riskpo_jax.training.trainable import trained_shapes
from riskpo_jax.training.update import TokenLoss, Update
from riskpo_jax.types import Prompts


@dataclass(frozen=True)
class Policy:
    """What speaks: model, tokenizer, the tokens that end a response, and how prompts are written."""

    config: Config
    model: Decoder
    tokenizer: PreTrainedTokenizerBase
    eos_ids: tuple[int, ...]
    generation_config: dict[str, Any]

    @cached_property
    def prompts(self) -> PromptEncoder:
        directory = Path(self.config.model.path)
        return make_prompt_encoder(self.config.data, self.tokenizer, directory)

    def encode(self, problems: Sequence[Problem]) -> Prompts:
        """Host arrays [Q, max_prompt_length] of the problems' prompts."""
        return self.prompts.encode(problems)

    def fitting(self, source: Source) -> tuple[Source, int]:
        """The problems whose prompts fit, and how many were skipped (`--data.on_overlong`)."""
        return self.prompts.fitting(source, self.config.data.on_overlong)


def load_policy(config: Config, needs_weights: bool = True) -> Policy:
    """Reads config.json and the tokenizer, and the headers of the weights and of `--lora.path`.

    needs_weights: False where none are read from the directory, which then need not have any.

    Raises:
      UserError: a directory that is missing or lacks a file, an unsupported architecture, a tokenizer
        or a sequence length that does not fit the model, or tensors that are not those of the
        architecture or of its adapters.
    """
    directory = Path(config.model.path)
    check_model_directory(directory)
    decoder_config = DecoderConfig.from_directory(directory)
    tokenizer = load_tokenizer(directory)
    tokens = 1 + max(tokenizer.get_vocab().values())  # len(tokenizer), but for ids left out
    if tokens > decoder_config.vocab_size:
        raise UserError(
            f"{vocabulary_file(directory)} has {tokens} tokens, more than the vocab_size of "
            f"{decoder_config.vocab_size} in config.json: use the tokenizer that belongs to the model"
        )
    longest = config.data.max_prompt_length + config.rollout.max_response_length
    if longest > decoder_config.max_position_embeddings:
        raise UserError(
            f"--data.max_prompt_length={config.data.max_prompt_length} and "
            f"--rollout.max_response_length={config.rollout.max_response_length} exceed the model's "
            f"max_position_embeddings of {decoder_config.max_position_embeddings}: lower one"
        )
    if needs_weights and config.model.init == "pretrained":
        open_checked(directory, decoder_config)
    generation = _read_generation_config(directory / "generation_config.json")
    declared = generation.ids("eos_token_id", decoder_config.vocab_size)
    model = make_model(config, decoder_config)
    if config.lora.path:
        peft.open_checked(config.lora.path, decoder_config, model.lora)
    ends = eos_ids(tokenizer, (*decoder_config.eos_token_ids, *declared), directory)
    return Policy(config, model, tokenizer, ends, dict(generation.values))


def check_model_directory(directory: Path) -> None:
    """Raises UserError for what is easily taken for a model's directory: a run's folder, adapters."""
    if not directory.is_dir():
        raise UserError(
            f"--model.path={directory} is not a directory: give one with config.json, tokenizer and "
            "safetensors"
        )
    if RunDir(directory).flags.exists():
        raise UserError(
            f"--model.path={directory} is the folder of a run: give {RunDir(directory).model}, or what "
            "experiments.export makes of a checkpoint"
        )
    if (directory / peft.CONFIG).exists() and not (directory / "config.json").exists():
        raise UserError(
            f"--model.path={directory} holds adapters: give the model they belong to, and these as "
            "--lora.path, or merge them with experiments.export"
        )


def make_model(config: Config, decoder_config: DecoderConfig) -> Decoder:
    """The decoder in the configured types, with adapters where `--lora.rank` is not 0."""
    c = config.lora
    matrices = tuple(peft.MATRICES[name] for name in c.matrices)
    return Decoder(
        decoder_config,
        dtype=jnp.dtype(config.model.compute_dtype),
        param_dtype=jnp.dtype(config.model.param_dtype),
        remat=config.model.remat,
        lora=Lora(c.rank, c.alpha, matrices) if c.rank else None,
    )


def load_eval_sets(config: Config, policy: Policy) -> tuple[list[EvalSet], dict[str, int]]:
    """The evaluation sets with the problems whose prompts fit, and how many each had to skip.

    There are none when the configuration names no evaluation problems.

    Raises:
      UserError: a set that is not there or is broken, or of which nothing fits.
    """
    eval_sets, skipped = [], {}
    for name, source in make_eval_sources(config).items():
        source, skipped[name] = policy.fitting(source)
        problems = [source[i] for i in range(len(source))]
        eval_sets.append(EvalSet(name, problems, policy.encode(problems)))
    return eval_sets, skipped


def print_skipped(console: Console, config: Config, skipped: int, split: str) -> None:
    """Says how many problems of a split, or of an evaluation set, `Policy.fitting` left out."""
    if skipped:
        console.print(
            f"skipped {skipped} {split} problems whose prompt is longer than "
            f"--data.max_prompt_length={config.data.max_prompt_length} tokens",
            soft_wrap=True,
            highlight=False,
        )


def load_mesh(
    config: Config, decoder_config: DecoderConfig, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """The mesh over all devices: this machine's, or those that are given.

    Raises:
      UserError: sizes that do not multiply to the number of devices, or whose `tensor`, that of training or
        of the rollout, does not divide the model's heads.
    """
    mesh = make_mesh(config.mesh.data, config.mesh.fsdp, config.mesh.tensor, devices)
    heads = decoder_config.num_heads
    for name, tensor in (("mesh", config.mesh.tensor), ("rollout", config.rollout.tensor)):
        if tensor and heads % tensor:
            divisors = [str(n) for n in range(1, heads + 1) if heads % n == 0]
            raise UserError(
                f"--{name}.tensor={tensor} does not divide the model's {heads} attention heads: use one of "
                f"{', '.join(divisors)}"
            )
    rollout_mesh(mesh, config.rollout.tensor)  # refuses what does not divide the devices
    return mesh


def make_optimizer(config: Config) -> optax.GradientTransformation:
    train = config.train
    updates = train.steps * (train.epochs * train.minibatches if train.stage == "rl" else 1)
    schedule = learning_rate(train.learning_rate, train.warmup_steps, train.schedule, updates)
    optimizer = adamw(
        schedule,
        b1=train.adam_b1,
        b2=train.adam_b2,
        eps=train.adam_eps,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
    )
    return with_moment_dtype(optimizer, jnp.dtype(train.moment_dtype))


def make_state(
    config: Config, params: Any, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """The state before the first step, on the mesh: moments placed like their parameters."""
    shapes = state_shapes(config, params, optimizer, mesh)
    shardings = jax.tree.map(lambda x: x.sharding, shapes)
    return jax.jit(partial(_first_state, config, optimizer), out_shardings=shardings)(params)


def state_shapes(
    config: Config, params: Any, optimizer: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """What `make_state` makes, as ShapeDtypeStructs with shardings; `params` may be such, too."""
    abstract = jax.eval_shape(partial(_first_state, config, optimizer), params)
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
    return jax.tree.map(
        lambda x, sharding: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding),
        abstract,
        shardings,
    )


def _first_state(
    config: Config, optimizer: optax.GradientTransformation, params: Any
) -> TrainState:
    tracker = quantiles.init(len(tracked_levels(config.algorithm)))
    return init_state(params, optimizer, tracker, config.seed)


def make_update(
    config: Config,
    model: Decoder,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    token_loss: TokenLoss,
    temperature: float,
) -> Update:
    """The update as the configuration says: its micro-batches, attention and placement."""
    questions = -(-config.questions_per_update // data_shards(mesh))
    on_cpu = mesh.devices.flat[0].platform == "cpu"
    # With the layers of a frozen base one by one, XLA would copy all of it.
    unroll = config.model.unroll or (8 if on_cpu and model.lora is None else 1)
    tokens = config.train.tokens_per_micro_batch or (2048 if on_cpu else 16_384)
    return Update(
        model.clone(unroll=min(unroll, model.config.num_layers)),
        mesh,
        optimizer,
        token_loss,
        temperature=temperature,
        attention=make_attention(config.model.attention, model.config, model.dtype, mesh),
        budget=Budget(
            tokens=tokens,
            questions=questions,
            rows=questions * (config.sequences_per_update // config.questions_per_update),
        ),
        shardings=jax.tree.map(lambda x: x.sharding, trained_shapes(model, mesh)),
    )


def rollout_sampling(config: Config) -> SamplingParams:
    return SamplingParams(config.rollout.temperature, config.rollout.top_k, config.rollout.top_p)


def make_sampler(config: Config, model: Decoder, eos_ids: tuple[int, ...], mesh: Mesh) -> Sampler:
    """The sampler for training and evaluation, on its own layout of the mesh's devices."""
    c = config.rollout
    # In the layout of training, batches that are divided would have every token gather all weights.
    divided = c.tensor > 0
    mesh = rollout_mesh(mesh, c.tensor)
    kv_dtype = jnp.dtype(model.dtype if c.kv_cache_dtype == "compute" else c.kv_cache_dtype)
    programs = Programs(
        model.clone(remat="none", mesh=mesh if divided else None),
        mesh,
        attention=make_attention(config.model.attention, model.config, model.dtype, mesh),
        longest=c.max_response_length,
        eos_ids=eos_ids,
        steps_per_sync=c.steps_per_sync,
        kv_dtype=kv_dtype,
    )
    return Sampler(programs, c.slots or config.sequences_per_step)


def make_evaluator(
    policy: Policy, sampler: Sampler, grader: Grader, key_data: jax.Array
) -> Evaluator:
    """Evaluates as the configuration says; every evaluation of a run draws with the same key."""
    c = policy.config.eval
    return Evaluator(
        sampler=sampler,
        tokenizer=policy.tokenizer,
        grader=grader,
        sampling=SamplingParams(c.temperature, c.top_k, c.top_p),
        samples=c.samples,
        batch_size=c.batch_size,
        key=purpose_key(key_data, Purpose.EVALUATION, 0),
    )


def _read_generation_config(file: Path) -> JsonObject:
    """What the file says, which a model need not have."""
    return JsonObject.read(file) if file.exists() else JsonObject({}, str(file))
