"""A run that trains adapters: killed and continued without a trace, and what it leaves behind."""

import json
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest

from experiments import evaluate, run
from riskpo_jax.models import hf, peft
from riskpo_jax.models import lora as lora_lib
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.lora import Lora
from riskpo_jax.reporting.files import read_jsonl

LORA = Lora(rank=2, alpha=4.0, matrices=("q", "v", "down"))
# All that can go wrong at once: a bfloat16 base, KL to the initial adapters, moments rounded at random.
SETTINGS = [
    "--model.init=pretrained",
    "--model.param_dtype=bfloat16",
    "--lora.rank=2",
    "--lora.alpha=4",
    "--lora.matrices=q_proj,v_proj,down_proj",
    "--train.moment_dtype=bfloat16",
    "--algorithm.kl_coef=0.05",
    "--train.steps=4",
]


@pytest.fixture(scope="module")
def command(small_run):
    return ["experiments.run", *small_run, *SETTINGS]


@pytest.fixture(scope="module")
def adapted(shell, command, tmp_path_factory) -> Path:
    """The folder of a LoRA run that went through without a break."""
    workdir = tmp_path_factory.mktemp("adapted") / "run"
    done = shell(*command, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert f"adapter: {workdir / 'adapter'}" in done.stdout
    return workdir


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def metrics(workdir: Path) -> list[dict]:
    clocks = ("time/", "throughput/", "compile/")
    rows = read_jsonl(workdir / "metrics.jsonl")
    return [{k: v for k, v in row.items() if not k.startswith(clocks)} for row in rows]


def test_a_killed_run_continues_exactly(shell, command, adapted, tmp_path):
    workdir = tmp_path / "run"
    # In the last of 4 steps; slowly, so that the checkpoint of the second is written by then.
    killed = shell(*command, f"--workdir={workdir}", DIE_AT="train:150", PAUSE="0.02")
    assert killed.returncode == -signal.SIGKILL
    assert 1 <= len(metrics(workdir)) < 4
    done = shell(*command, f"--workdir={workdir}")
    assert done.returncode == 0, done.stderr
    assert "continuing after step" in done.stdout
    for name in ("adapter", "model"):
        assert files(workdir / name) == files(adapted / name)
    rows = metrics(adapted)
    assert metrics(workdir) == rows and len(rows) == 4
    assert all(row["grad/norm"] > 0 and not row["grad/skipped"] for row in rows)
    assert rows[0]["policy/reference_kl"] < 1e-6 < rows[-1]["policy/reference_kl"]


def test_the_run_leaves_adapters_and_the_merged_model(adapted, model_directory):
    config = DecoderConfig.from_directory(model_directory)
    base = hf.load_params(model_directory, config, jnp.bfloat16)
    adapters = peft.load_adapters(adapted / "adapter", config, LORA)
    assert all(np.abs(leaf).max() > 1e-3 for leaf in jax.tree.leaves(adapters))  # B has moved
    merged = hf.load_params(adapted / "model", config, jnp.bfloat16)
    jax.tree.map(np.testing.assert_array_equal, merged, lora_lib.merge(base, adapters, LORA))
    changed = jax.tree.map(lambda a, b: bool((a != b).any()), merged, base)
    assert changed["layers"]["attention"] == {
        "q": True, "k": False, "v": True, "o": False,
        "q_bias": False, "k_bias": False, "v_bias": False,
    }  # fmt: skip
    assert not changed["embedding"]


def test_a_checkpoint_holds_adapters_only(adapted):
    adapters = peft.load_adapters(
        adapted / "adapter", DecoderConfig.from_directory(adapted / "model"), LORA
    )
    with ocp.CheckpointManager(adapted / "checkpoints") as manager:
        state = manager.restore(4, args=ocp.args.StandardRestore())
    assert jax.tree.structure(state["params"]) == jax.tree.structure(adapters)
    jax.tree.map(np.testing.assert_array_equal, state["params"], adapters)
    moments = [x for x in jax.tree.leaves(state["opt_state"]) if x.ndim]
    assert sum(x.size for x in moments) == 2 * sum(x.size for x in jax.tree.leaves(adapters))
    assert {str(x.dtype) for x in moments} == {"bfloat16"}


def test_a_checkpoint_evaluates_to_the_run_s_rows(shell, adapted, tmp_path):
    out = tmp_path / "out"
    done = shell("experiments.evaluate", f"--model={adapted}", f"--output={out}")
    assert done.returncode == 0, done.stderr
    rows = [row for row in read_jsonl(adapted / "eval.jsonl") if row["step"] == 4]
    assert json.loads((out / "results.json").read_text())["rows"] == rows and rows


def test_the_merged_model_is_evaluated_without_adapters(call, monkeypatch, adapted, tmp_path):
    """The recorded flags name a rank; `model/` has the adapters inside already."""
    seen = {}

    load_params = evaluate.load_params

    def capture(source, policy, mesh):
        seen.update(model=policy.model, params=load_params(source, policy, mesh))
        sys.exit(0)

    monkeypatch.setattr(evaluate, "load_params", capture)
    recorded, own = f"--flagfile={adapted / 'run.flags'}", "--reward.name=countdown"
    flags = f"--model={adapted / 'model'}", f"--output={tmp_path / 'out'}"
    status, told, _ = call(evaluate, recorded, own, *flags, devices=True)
    assert status == 0 and f"evaluating {adapted / 'model'} as it is" in told
    config = DecoderConfig.from_directory(adapted / "model")
    expected = hf.load_params(adapted / "model", config, jnp.bfloat16)
    assert seen["model"].lora is None
    jax.tree.map(np.testing.assert_array_equal, seen["params"], expected)


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ([], None),
        (["--lora.rank=3"], "have other settings than these; give --lora.rank=2"),
        (["--lora.path=/nowhere"], "/nowhere/adapter_config.json does not exist"),
    ],
    ids=["fit", "rank", "absent"],
)
def test_adapters_to_start_from_are_checked_before_any_device(
    call, adapted, tmp_path, changes, complaint
):
    status, _, err = call(
        run,
        f"--flagfile={adapted / 'run.flags'}",
        "--reward.name=countdown",
        f"--workdir={tmp_path / 'run'}",
        f"--lora.path={adapted / 'adapter'}",
        *changes,
    )
    if complaint is None:
        assert (status, err) == (99, "")  # the status of reaching one
    else:
        assert status == 1 and err.count("\n") == 1 and complaint in err
