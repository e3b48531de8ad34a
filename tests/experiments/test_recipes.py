"""The paper's recipes: their numbers, and a step of each as it is written, with a model of a few weights."""

import dataclasses
import json
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from absl import flags

from experiments import flags as experiment_flags
from experiments import run
from riskpo_jax.config import Config, to_flat
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.hf import save_pretrained
from riskpo_jax.models.known import KNOWN
from riskpo_jax.models.partitioning import init_params
from riskpo_jax.reporting.files import read_jsonl
from riskpo_jax.rewards.outcome import Kind
from riskpo_jax.rollout.programs import Programs
from riskpo_jax.rollout.seating import Seating
from riskpo_jax.sharding import make_mesh

ROOT = Path(__file__).parents[2]
FLAGFILES = Path("experiments/flagfiles")
HARD, EASY = "hard_math_r1_distill_1.5b", "easy_math_qwen2.5_1.5b"
RECIPES = [HARD, f"{HARD}_grpo", EASY, f"{EASY}_grpo"]

# What a model of each recipe looks like: the kind of its tokenizer, and whether its head is its embedding.
MODELS = {
    "DeepSeek-R1-Distill-Qwen-1.5B": ("r1_distill", False),
    "Qwen2.5-1.5B-Instruct": ("qwen2", True),
}
SIZES = [
    "--train.steps=1",
    "--data.questions_per_step=20",
    "--rollout.slots=6",
    "--rollout.group_size=2",
    "--train.tokens_per_micro_batch=64",
    "--data.max_prompt_length=288",
    "--rollout.max_response_length=8",
    "--eval.problems=2",
    "--eval.samples=2",
    "--eval.k=1,2",
    "--eval.batch_size=2",
    "--report.samples_every=1",
    "--report.samples=20",
]


def configured(name: str, monkeypatch) -> Config:
    monkeypatch.chdir(ROOT)
    values = flags.FlagValues()
    experiment_flags.define_flags(values)
    flags.DEFINE_string("workdir", None, "", flag_values=values)
    values(["program", f"--flagfile={FLAGFILES / name}.flags"])
    return experiment_flags.config_from_flags(values)


# Questions, mini-batches, G, (alpha, beta), P, R, steps; the first two are ours for 512/4 and 1024/2.
@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        (HARD, (480, 4, 10, (0.2, 0.8), 1024, 3072, 500)),
        (EASY, (1040, 2, 5, (0.2, 0.9), 1024, 1024, 200)),
    ],
)
def test_the_numbers_of_the_paper(name, numbers, monkeypatch):
    config = configured(name, monkeypatch)
    data, rollout, algorithm, train = config.data, config.rollout, config.algorithm, config.train
    assert numbers == (
        data.questions_per_step,
        train.minibatches,
        rollout.group_size,
        (algorithm.alpha, algorithm.beta),
        data.max_prompt_length,
        rollout.max_response_length,
        train.steps,
    )
    assert (algorithm.preset, algorithm.omega, algorithm.bundle_size) == ("paper", 0.5, 5)
    assert (algorithm.clip_low, algorithm.clip_high, algorithm.kl_coef) == (0.2, 0.2, 0)
    assert (train.learning_rate, train.epochs, rollout.temperature) == (1e-6, 1, 1)
    instruction = r"Let's think step by step and output the final answer within \boxed{}."
    assert (data.answer_instruction, data.system_prompt) == (instruction, "")
    # Bundles lie within a mini-batch, and 8 devices share whatever is divided.
    assert data.questions_per_step // train.minibatches % algorithm.bundle_size == 0
    divided = (data.questions_per_step // train.minibatches, rollout.slots, config.eval.batch_size)
    assert all(rows and rows % 8 == 0 for rows in divided)
    assert train.tokens_per_micro_batch >= rollout.max_response_length


@pytest.mark.parametrize(
    ("name", "shape", "gigabytes"),
    [(HARD, "DeepSeek-R1-Distill-Qwen-1.5B", 7.6), (EASY, "Qwen2.5-1.5B", 8.6)],
)
def test_the_cache_leaves_room_on_each_of_8_devices(name, shape, gigabytes, monkeypatch):
    """As many bytes as the flagfile says, and evaluation has no more."""
    config = configured(name, monkeypatch)
    data, rollout = config.data, config.rollout
    model = Decoder(KNOWN[shape], dtype=jnp.bfloat16)
    programs = Programs(model, make_mesh(), longest=rollout.max_response_length, eos_ids=(0,))
    # A response that begins within a block still sees it when it is as long as can be.
    blocks = -(-rollout.max_response_length // programs.block) + 1

    def cache(questions, group_size):
        seating = Seating(questions, group_size, 8, min(rollout.slots, questions * group_size))
        parts = (
            (seating.prompt_slots, data.max_prompt_length),
            (seating.slots_per_shard, blocks * programs.block),
        )
        shapes = jax.eval_shape(lambda: [programs.empty(*part) for part in parts])
        return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(shapes)) / 1e9

    training = cache(data.questions_per_step, rollout.group_size)
    assert round(training, 1) == gigabytes
    said = (FLAGFILES / f"{name}.flags").read_text()
    assert f"{gigabytes} GB on each of 8" in said
    assert cache(config.eval.batch_size, config.eval.samples) <= training


@pytest.mark.parametrize("name", [HARD, EASY])
def test_the_grpo_twin_differs_in_the_algorithm_only(name, monkeypatch):
    ours, twin = (to_flat(configured(n, monkeypatch)) for n in (name, f"{name}_grpo"))
    differing = {key for key in ours if ours[key] != twin[key]}
    assert differing == {
        "algorithm.preset",  # and what it implies
        "algorithm.credit",
        "algorithm.baseline",
        "algorithm.loss_aggregation",
    }


@pytest.fixture(scope="module")
def folder(write_tokenizer, shared_data, tmp_path_factory) -> Path:
    """Where the recipes find all they name: small models, and the short ones of the real problems."""
    folder = tmp_path_factory.mktemp("recipes")
    (folder / "experiments").symlink_to(ROOT / "experiments")
    shape = DecoderConfig(304, 16, 24, 2, 4, 2, 4, max_position_embeddings=4096)
    for name, (kind, tied) in MODELS.items():
        config = dataclasses.replace(shape, tie_embeddings=tied)
        directory = folder / "models" / name
        params = init_params(Decoder(config), jax.random.key(0), make_mesh())
        save_pretrained(directory, params, config)
        write_tokenizer(kind, directory)
    (folder / "data").mkdir()
    for name in ("dapo_math_17k", "aime24", "gsm8k_train", "math_train", "math500"):
        rows = read_jsonl(shared_data / f"{name}.jsonl")
        short = [row for row in rows if len(row["problem"].encode()) < 190][:20]
        file = folder / "data" / f"{name}.jsonl"
        file.write_text("".join(json.dumps(row) + "\n" for row in short), encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_of_the_recipe(call, folder, monkeypatch, name):
    monkeypatch.setattr(
        run, "report", lambda _: None
    )  # its plots take long and are tested elsewhere
    flagfile = f"--flagfile={FLAGFILES / name}.flags"
    status, out, err = call(run, flagfile, *SIZES, devices=True, folder=folder)
    assert status == 0, err
    workdir = folder / "runs" / name
    (row,) = read_jsonl(workdir / "metrics.jsonl")
    assert sum(row[f"reward/{kind}"] for kind in Kind) == pytest.approx(1)
    assert row["reward/error"] == 0 and row["grad/skipped"] == 0
    evaluated = {r["dataset"] for r in read_jsonl(workdir / "eval.jsonl")}
    assert ("aime24/all" if HARD in name else "math500/all") in evaluated
    asked = {record["id"].rsplit("-", 1)[0] for record in read_jsonl(workdir / "samples.jsonl")}
    assert asked == ({"dapo"} if HARD in name else {"gsm8k-train", "math-train"})
