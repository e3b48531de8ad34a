"""Every setting of a run, as frozen dataclasses: the one source of truth.

`experiments/` generates its command line from these fields (`--algorithm.alpha`, help text from the
metadata), `config_rules.resolve` fills what a preset decides and refuses contradictions, and `to_flat` is
what `config.json` records. Library code never sees flags.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any, get_type_hints

from riskpo_jax.errors import UserError


def setting(default: Any, help: str, *, choices: tuple[str, ...] = (), may_change: bool = False):
    """A field with its flag's help text.

    choices: the allowed values, if they can be listed. may_change: a resumed run may differ in it.
    """
    metadata = {"help": help, "choices": choices, "may_change": may_change}
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    path: str = setting(
        "experiments/assets/countdown-base",
        "Hugging Face directory: config.json, tokenizer, *.safetensors.",
    )
    init: str = setting(
        "pretrained",
        "Where the weights come from: the directory, or a random draw of its config.json's shape.",
        choices=("pretrained", "random"),
    )
    param_dtype: str = setting(
        "float32",
        "Type in which parameters are stored, between updates too; gradients are summed in float32.",
        choices=("float32", "bfloat16"),
    )
    compute_dtype: str = setting(
        "float32",
        "Type of matrix products, activations and KV cache; norms, softmax and logits are float32.",
        choices=("float32", "bfloat16", "float16"),
    )
    remat: str = setting(
        "none",
        "What each layer recomputes in the backward pass to save memory: nothing, all but the matrix "
        "products, or all.",
        choices=("none", "products", "all"),
        may_change=True,
    )
    unroll: int = setting(
        0,
        "Layers that the update computes one after another instead of in a loop, which would copy what the "
        "backward pass needs; 0: up to 8 on a CPU without adapters, else 1, which compiles faster.",
        may_change=True,
    )
    attention: str = setting(
        "auto",
        "What computes attention over whole sequences: cudnn on GPUs, splash on TPUs, else xla (auto).",
        choices=("auto", "xla", "cudnn", "splash"),
        may_change=True,
    )


@dataclasses.dataclass(frozen=True)
class LoraConfig:
    rank: int = setting(
        0, "Train low-rank adapters of this rank and leave the model as it is; 0 trains the model."
    )
    alpha: float = setting(32.0, "Adapters are scaled by alpha / rank.")
    matrices: tuple[str, ...] = setting(
        ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"),
        "Matrices of every layer that have an adapter, by their Hugging Face names.",
    )
    path: str = setting("", "Adapter directory of PEFT to start from; its rank etc. must agree.")


@dataclasses.dataclass(frozen=True)
class DataConfig:
    source: str = setting(
        "countdown",
        "Where problems come from.",
        choices=("countdown", "jsonl", "reasoning_gym", "sets"),
    )
    sets: tuple[str, ...] = setting(
        (),
        "Data sets of source sets, mixed: names (gsm8k, math, dapo_math_17k, mbpp, ...), or jsonl:FILE, "
        "tfds:NAME, datasets:WHERE, reasoning_gym:TASK, countdown:LEVEL.",
    )
    weights: tuple[float, ...] = setting(
        (), "Share of each of --data.sets in training; empty: in proportion to their sizes."
    )
    folder: str = setting("data", "Folder with the files of the data sets that are called by name.")
    columns: tuple[str, ...] = setting(
        (), "Names of other people's columns: problem=question,answer=final_answer."
    )
    keep_levels: tuple[str, ...] = setting(
        (), "Train on problems of these levels only; empty: all."
    )
    max_problem_chars: int = setting(
        0, "Train on problems of at most this many characters; 0 is off."
    )
    contamination_ngram: int = setting(
        13,
        "Report training problems that share a run of this many words with an evaluation problem; "
        "0 is off.",
    )
    drop_contaminated: bool = setting(False, "Leave such training problems out.")
    path: tuple[str, ...] = setting(
        (),
        "Training problems of source jsonl, one file or several: id, problem, answer on each line.",
    )
    eval_path: str = setting("", "Evaluation problems of source jsonl.")
    task: str = setting("", "Task name of source reasoning_gym, such as chain_sum.")
    task_options: tuple[str, ...] = setting(
        (), "Settings of --data.task's own configuration: min_empty=8,max_empty=12."
    )
    size: int = setting(20_000, "Training problems to draw from a procedural source.")
    levels: tuple[str, ...] = setting(
        ("easy", "medium", "hard"), "Countdown levels: 3, 4 and 5 numbers, in equal parts."
    )
    max_number: int = setting(20, "Largest number that a Countdown problem gives.")
    max_target: int = setting(60, "Largest Countdown target.")
    prompt_template: str = setting(
        "{problem}",
        r"Prompt text; {problem} and the keys of the problem's metadata are filled in, \n is a line break.",
    )
    answer_instruction: str | None = setting(
        None,
        r"Appended to the prompt text after a space, as it is (no braces to double; \n breaks). Default: "
        "what a named data set says, else nothing.",
    )
    system_prompt: str = setting("", r"System message of a chat template; \n is a line break.")
    chat_template: str = setting(
        "none",
        "What wraps the prompt: nothing, the model's own chat template, or a plain one for base models.",
        choices=("none", "model", "plain"),
    )
    thinking: bool = setting(
        True, "Passed to the model's chat template as enable_thinking (Qwen3 listens to it)."
    )
    max_prompt_length: int = setting(64, "Longest prompt, in tokens.")
    on_overlong: str = setting(
        "skip",
        "What a longer prompt does: it is skipped and counted, or ends the run.",
        choices=("skip", "error"),
    )
    questions_per_step: int = setting(30, "Questions in one rollout batch (K bundles of B).")


@dataclasses.dataclass(frozen=True)
class RewardConfig:
    name: str = setting(
        "auto",
        "What grades: auto (each problem's own), countdown, math, code, reasoning_gym, or your own as "
        "package.module:function.",
    )
    final_answer: str = setting(
        "boxed",
        r"Reward math: the final answer stands in the last \boxed{}, or without one after the last ####.",
        choices=("boxed", "hashes"),
    )
    format_credit: float = setting(
        0.0, "Reward math: score of a wrong answer that stands where it should."
    )
    code_score: str = setting(
        "all",
        "Reward code: 1 if all tests pass, or the fraction of tests passed.",
        choices=("all", "fraction"),
    )
    countdown_score: str = setting(
        "all",
        "Reward countdown: 1 if the target is hit, else 0, or up to 1/2 for coming near with each number "
        "used once.",
        choices=("all", "distance"),
    )
    reasoning_gym_score: str = setting(
        "graded",
        "Reward reasoning_gym: what the task's scorer says, partial credit included, or 1 for its full "
        "score and else 0.",
        choices=("graded", "all"),
    )
    workers: int = setting(0, "Processes that grade; 0 takes one a core.", may_change=True)
    isolate: bool = setting(False, "Grade by your own function in worker processes, too.")
    timeout_s: float = setting(
        1.0, "Seconds after which a worker process that grades one response is killed."
    )
    memory_mb: int = setting(1024, "Memory of a worker process that grades, in MiB.")
    code_timeout_s: float = setting(6.0, "Seconds for all tests of one program in the sandbox.")
    code_memory_mb: int = setting(512, "Memory of one program and all its processes, in MiB.")
    unsafe_code_without_sandbox: bool = setting(
        False,
        "DANGER: run what the model writes with your own rights where bubblewrap is missing.",
    )


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    group_size: int = setting(8, "Responses G to each question.")
    slots: int = setting(
        0,
        "Responses decoded at the same time, in training and evaluation, which bounds the KV cache; "
        "waiting ones take the place of those that end. 0: as many as a step has.",
        may_change=True,
    )
    steps_per_sync: int = setting(
        16, "Tokens decoded between two looks at which responses ended.", may_change=True
    )
    kv_cache_dtype: str = setting(
        "compute",
        "Type of the KV cache: that of the computation, or bfloat16, or int8 with a scale a token and head.",
        choices=("compute", "bfloat16", "int8"),
    )
    tensor: int = setting(
        1,
        "Devices that share one decode step, each with a part of the parameters: 1 decodes on every "
        "device by itself, 0 keeps the layout of training.",
    )
    max_response_length: int = setting(32, "Longest response, in tokens, end token included.")
    temperature: float = setting(1.0, "Sampling temperature of training rollouts.")
    top_k: int = setting(
        0, "Sample among the k likeliest tokens; 0 is off. Off-policy by the mass it cuts."
    )
    top_p: float = setting(
        1.0,
        "Sample among the likeliest tokens of this total mass; 1 is off. Off-policy by the mass it cuts.",
    )


@dataclasses.dataclass(frozen=True)
class AlgorithmConfig:
    preset: str = setting(
        "paper",
        "RiskPO as in the paper, as its released code computes it, as that code intends it, or a "
        "baseline.",
        choices=(
            "paper",
            "official_released",
            "official_intended",
            "grpo",
            "dr_grpo",
            "rloo",
            "dapo",
            "gspo",
        ),
    )
    profile: str = setting(
        "averse",
        "Which tail MVaR weights: lower (the paper), upper, or none (bundled mean). Preset paper.",
        choices=("averse", "seeking", "neutral"),
    )
    bundle_size: int = setting(5, "Questions B in a bundle; divides --data.questions_per_step.")
    alpha: float = setting(0.2, "Lower quantile level.")
    beta: float = setting(0.8, "Upper quantile level.")
    omega: float = setting(
        0.5, "Extra weight of the tail below alpha. The official presets have their own."
    )
    levels: str = setting(
        "fixed",
        "Quantile levels alpha and beta of all bundle scores, or of those between B x the batch's smallest "
        "and B x its largest reward, where many are at these (adaptive). Preset paper, profile averse.",
        choices=("fixed", "adaptive"),
    )
    credit: str | None = setting(
        None,
        "Advantage of a response: its one bundle sample's (uniform), or the exact expectation over "
        "the bundling permutations (expected). Preset paper; default uniform.",
        choices=("uniform", "expected"),
    )
    bundling: str = setting(
        "random",
        "Bundle questions at random, or with others of similar pass rate. For grpo, dr_grpo, rloo, "
        "dapo and gspo bundles only serve the risk metrics.",
        choices=("random", "stratified"),
    )
    baseline: str | None = setting(
        None,
        "Constant subtracted from the advantages, over the batch's bundles (credit uniform) or over "
        "a question's responses (credit expected). Preset paper; default none for uniform, "
        "leave_one_out for expected.",
        choices=("none", "mean", "leave_one_out"),
    )
    scale_advantages: bool = setting(
        False, "Divide a batch's advantages by their root mean square."
    )
    tracker_step_size: float = setting(
        0.1, "Quantile tracker's first step gamma_0, in rewards. The official presets keep 0.1."
    )
    tracker_schedule: str = setting(
        "polynomial",
        "gamma_k = gamma_0, or gamma_0 / (1 + k/tau)^power.",
        choices=("constant", "polynomial"),
    )
    tracker_tau: float = setting(100.0, "tau of the polynomial schedule, in steps.")
    tracker_power: float = setting(0.6, "Power of the polynomial schedule.")
    ratio: str | None = setting(
        None,
        "Importance ratio that is clipped: each token's, or the geometric mean of a sequence's. Default: "
        "sequence for gspo, else token.",
        choices=("token", "sequence"),
    )
    clip_low: float | None = setting(
        None,
        "The ratio is clipped below at 1 - clip_low; default 0.2, 3e-4 where the ratio is sequence.",
    )
    clip_high: float | None = setting(
        None,
        "The ratio is clipped above at 1 + clip_high; default 0.2, 0.28 for dapo, 4e-4 where the ratio is "
        "sequence.",
    )
    loss_aggregation: str | None = setting(
        None,
        "Mean over all tokens, over sequences of their mean, or over sequences of their sum / "
        "max_response_length. Default: the preset's own (sequence_mean for grpo, rloo and "
        "gspo, constant_length for dr_grpo, else token_mean).",
        choices=("token_mean", "sequence_mean", "constant_length"),
    )
    kl_coef: float = setting(0.0, "Weight of the k3 KL penalty to the initial policy.")
    entropy_coef: float = setting(0.0, "Weight of the entropy bonus.")


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    stage: str = setting(
        "rl",
        "Post-train by rewards, or warm-start on the source's solutions.",
        choices=("rl", "supervised"),
    )
    steps: int = setting(200, "Rollout batches (rl) or updates (supervised).", may_change=True)
    learning_rate: float = setting(3e-4, "Peak learning rate of AdamW.")
    warmup_steps: int = setting(5, "Updates of linear warm-up.")
    schedule: str = setting(
        "constant", "Learning rate after warm-up.", choices=("constant", "cosine")
    )
    adam_b1: float = setting(0.9, "AdamW's first-moment decay.")
    adam_b2: float = setting(0.99, "AdamW's second-moment decay.")
    adam_eps: float = setting(1e-8, "AdamW's epsilon.")
    moment_dtype: str = setting(
        "float32",
        "Type in which AdamW's two moments are stored; bfloat16 is rounded stochastically.",
        choices=("float32", "bfloat16"),
    )
    weight_decay: float = setting(0.0, "AdamW's decoupled weight decay.")
    max_grad_norm: float = setting(1.0, "Gradients are clipped to this global norm.")
    epochs: int = setting(1, "Passes over each rollout batch (rl).")
    minibatches: int = setting(1, "Updates in one pass (rl).")
    tokens_per_micro_batch: int = setting(
        0,
        "Response tokens, padding included, in one backward pass of one data shard; 0: 2,048 on a CPU, "
        "whose caches hold about as much, 16,384 elsewhere.",
        may_change=True,
    )
    old_logprobs: str = setting(
        "sampler",
        "Log-probabilities that the ratio divides by: the sampler's, or the trainer's, recomputed before "
        "the first update.",
        choices=("sampler", "trainer"),
    )
    batch_size: int = setting(256, "Examples in one supervised update.")


@dataclasses.dataclass(frozen=True)
class EvalConfig:
    every: int = setting(50, "Steps between evaluations; 0 evaluates at start and end only.")
    datasets: tuple[str, ...] = setting(
        (), "Evaluation sets by name (math500, aime24, humaneval, ...) or as in --data.sets."
    )
    problems: int | None = setting(
        None,
        "Problems of each level of a procedural source (default 100), or the first of a file or named "
        "set (default: all).",
    )
    samples: int = setting(32, "Responses to each problem.")
    k: tuple[int, ...] = setting((1, 8, 32), "Report pass@k for these k.")
    temperature: float = setting(1.0, "Sampling temperature; 0 is greedy.")
    top_k: int = setting(0, "Sample among the k likeliest tokens; 0 is off.")
    top_p: float = setting(1.0, "Sample among the likeliest tokens of this total mass; 1 is off.")
    batch_size: int = setting(
        50,
        "Problems that are sampled, graded and saved together (--rollout.slots bounds the memory).",
    )


@dataclasses.dataclass(frozen=True)
class CheckpointConfig:
    every: int = setting(
        50, "Steps between checkpoints; evaluated steps and the last are saved too."
    )
    keep_last: int = setting(2, "Latest checkpoints to keep.", may_change=True)
    keep_best: int = setting(1, "Checkpoints of best mean pass@1 to keep.", may_change=True)


@dataclasses.dataclass(frozen=True)
class MeshConfig:
    data: int = setting(-1, "Devices along the data axis; -1 takes what the others leave.")
    fsdp: int = setting(1, "Devices that each hold a slice of the parameters.")
    tensor: int = setting(1, "Devices that share one matrix product.")


@dataclasses.dataclass(frozen=True)
class CompileConfig:
    cache_dir: str = setting(
        "",
        "Folder that keeps compiled programs between runs, or none. Default: $JAX_COMPILATION_CACHE_DIR, "
        "else on GPU and TPU ~/.cache/riskpo_jax/compiled; a CPU keeps none.",
        may_change=True,
    )
    worst_case_first: str = setting(
        "auto",
        "Compile and run the largest shapes before the first step, so that running out of memory shows at "
        "once (rl); auto does so on GPU and TPU.",
        choices=("auto", "yes", "no"),
        may_change=True,
    )


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    tensorboard: bool = setting(True, "Write TensorBoard events.", may_change=True)
    wandb: bool = setting(False, "Log to Weights & Biases (pip install wandb).", may_change=True)
    samples_every: int = setting(10, "Steps between records in samples.jsonl.")
    samples: int = setting(8, "Responses to record in samples.jsonl each time.")


@dataclasses.dataclass(frozen=True)
class Config:
    seed: int = setting(0, "Root of all randomness.")
    model: ModelConfig = ModelConfig()
    lora: LoraConfig = LoraConfig()
    data: DataConfig = DataConfig()
    reward: RewardConfig = RewardConfig()
    rollout: RolloutConfig = RolloutConfig()
    algorithm: AlgorithmConfig = AlgorithmConfig()
    train: TrainConfig = TrainConfig()
    eval: EvalConfig = EvalConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    mesh: MeshConfig = MeshConfig()
    compile: CompileConfig = CompileConfig()
    report: ReportConfig = ReportConfig()

    @property
    def sequences_per_step(self) -> int:
        return self.data.questions_per_step * self.rollout.group_size

    @property
    def questions_per_update(self) -> int:
        """Prompts that one update reads."""
        if self.train.stage == "supervised":
            return self.train.batch_size
        return self.data.questions_per_step // self.train.minibatches

    @property
    def sequences_per_update(self) -> int:
        supervised = self.train.stage == "supervised"
        return self.questions_per_update * (1 if supervised else self.rollout.group_size)


def leaves(config: Any = Config, prefix: str = "") -> Iterator[tuple[str, dataclasses.Field, Any]]:
    """(dotted name, field, type) of every setting, depth first, in the order of definition."""
    hints = get_type_hints(config if isinstance(config, type) else type(config))
    for field in dataclasses.fields(config):
        if dataclasses.is_dataclass(hints[field.name]):
            yield from leaves(hints[field.name], f"{prefix}{field.name}.")
        else:
            yield prefix + field.name, field, hints[field.name]


def get(config: Config, name: str) -> Any:
    """The value of a dotted setting name."""
    for part in name.split("."):
        config = getattr(config, part)
    return config


def from_flat(values: Mapping[str, Any]) -> Config:
    """A configuration from dotted names; settings that are not named keep their defaults.

    Raises:
      UserError: a name that is no setting.
    """
    known = {name for name, _, _ in leaves()}
    unknown = sorted(set(values) - known)
    if unknown:
        raise UserError(f"unknown setting {unknown[0]!r}; see --helpfull for those that exist")
    return _build(Config, "", values)


def to_flat(config: Config) -> dict[str, Any]:
    """Dotted name -> value, tuples as lists: what config.json records."""
    flat = {name: get(config, name) for name, _, _ in leaves()}
    return {name: list(v) if isinstance(v, tuple) else v for name, v in flat.items()}


def _build(cls: type, prefix: str, values: Mapping[str, Any]) -> Any:
    hints = get_type_hints(cls)
    chosen = {}
    for field in dataclasses.fields(cls):
        name = prefix + field.name
        if dataclasses.is_dataclass(hints[field.name]):
            chosen[field.name] = _build(hints[field.name], name + ".", values)
        elif name in values:
            value = values[name]
            chosen[field.name] = tuple(value) if isinstance(value, list) else value
    return cls(**chosen)
