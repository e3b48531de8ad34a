"""A run that is killed and continued is, bit for bit, the run that was not."""

import json
import signal
import time
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest

from riskpo_jax.reporting.files import read_jsonl

RUN = "experiments.run"
MEASURED = (
    "time/",
    "throughput/",
    "compile/",
)  # the only metrics that two equal runs may differ in


def restored(workdir: Path) -> tuple[list[int], dict]:
    """The checkpoints that are there, and the last one as it is on disk: path -> array."""
    with ocp.CheckpointManager(workdir / "checkpoints") as manager:
        steps = sorted(manager.all_steps())
        state = manager.restore(steps[-1], args=ocp.args.StandardRestore())
    leaves, _ = jax.tree.flatten_with_path(state)
    return steps, {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in leaves}


def deterministic_metrics(workdir: Path) -> list[dict]:
    return [
        {key: value for key, value in row.items() if not key.startswith(MEASURED)}
        for row in read_jsonl(workdir / "metrics.jsonl")
    ]


def files(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def evaluations(workdir: Path, but_for: int | None = None) -> list[dict]:
    return [row for row in read_jsonl(workdir / "eval.jsonl") if row["step"] != but_for]


def assert_same_run(found: Path, expected: Path, extra_evaluation: int | None = None) -> None:
    """Compares all that a run leaves behind, except clock times; prints what was compared.

    extra_evaluation: a step that only `found` was asked to evaluate.
    """
    (_, found_state), (steps, state) = restored(found), restored(expected)
    assert found_state.keys() == state.keys()
    for path, array in state.items():
        assert found_state[path].dtype == array.dtype
        assert found_state[path].tobytes() == array.tobytes(), path
    rows = deterministic_metrics(expected)
    assert deterministic_metrics(found) == rows
    assert evaluations(found, extra_evaluation) == evaluations(expected)
    assert (found / "samples.jsonl").read_text() == (expected / "samples.jsonl").read_text()
    model = files(expected / "model")
    assert files(found / "model") == model

    parts = sorted({path.split("'")[1] for path in state})
    print(
        f"\nbit-identical: checkpoint {steps[-1]}, {len(state)} arrays, "
        f"{sum(array.nbytes for array in state.values()):,} bytes ({', '.join(parts)});"
        f"\n  metrics.jsonl, {len(rows)} rows x {len(rows[0])} keys; "
        f"eval.jsonl, {len(evaluations(expected))} rows; "
        f"samples.jsonl, {len(read_jsonl(expected / 'samples.jsonl'))} rows; "
        f"model/, {len(model)} files"
    )


def test_the_small_run_is_worth_comparing(finished):
    """It learns at every step and has a checkpoint with all the state, or equality means nothing."""
    rows = deterministic_metrics(finished)
    assert [row["step"] for row in rows] == list(range(1, 9))
    assert all(row["grad/norm"] > 0 and not row["grad/skipped"] for row in rows)
    assert len({row["policy/entropy"] for row in rows}) == len(rows)
    steps, state = restored(finished)
    assert steps[-1] == 8
    assert {path.split("'")[1] for path in state} == {
        "params", "opt_state", "step", "position", "tracker", "key"
    }  # fmt: skip
    assert (state["['step']"], state["['position']"]) == (8, 80)
    evaluated = [row["step"] for row in evaluations(finished)]
    assert evaluated == [0] * 4 + [4] * 4 + [8] * 4  # easy, medium, hard, all
    assert {row["step"] for row in read_jsonl(finished / "samples.jsonl")} == {2, 4, 6, 8}


CONTRACT = (
    "step reward/mean reward/correct reward/wrong reward/no_answer reward/timeout reward/error "
    "policy/entropy policy/mismatch_kl policy/clip_fraction risk/q_alpha risk/q_beta risk/mvar "
    "risk/rvar risk/cvar bundle/score_mean bundle/zero_variance_fraction response/length_mean "
    "response/truncated_fraction grad/norm grad/skipped time/rollout_s time/reward_s time/update_s "
    "time/step_s throughput/generated_tokens_per_s"
).split()


def test_the_folder_holds_what_the_contract_names(finished):
    names = {path.name for path in finished.iterdir()}
    assert names >= {
        "config.json", "run.flags", "metrics.jsonl", "eval.jsonl", "samples.jsonl",
        "checkpoints", "plots", "model",
    }  # fmt: skip
    assert list((finished / "plots").glob("*.png"))
    for row in read_jsonl(finished / "metrics.jsonl"):
        assert set(CONTRACT) <= set(row)
        outcomes = ("correct", "wrong", "no_answer", "timeout", "error")
        assert sum(row[f"reward/{kind}"] for kind in outcomes) == pytest.approx(1)
    for row in evaluations(finished):
        assert {"step", "dataset", "n", "samples", "pass@1", "pass@4", "avg@4", "maj@4"} <= set(row)
        assert row["entropy"] > 0


def kill_after(process, metrics: Path, step: int) -> None:
    """SIGKILL from outside, once the run has recorded this step."""
    while process.poll() is None:
        if metrics.exists() and any(row["step"] >= step for row in read_jsonl(metrics)):
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.01)
    process.communicate(timeout=60)


def test_killed_and_resumed_is_bit_identical(start, shell, small_run, finished, tmp_path):
    workdir = tmp_path / "run"
    command = (RUN, *small_run, f"--workdir={workdir}")

    # In the first step, before there is a checkpoint; 40 responses a step.
    assert shell(*command, DIE_AT="train:30").returncode == -signal.SIGKILL
    assert not read_jsonl(workdir / "metrics.jsonl")

    # In the evaluation after step 4, which is recorded; its checkpoint is not.
    assert shell(*command, DIE_AT="eval:15").returncode == -signal.SIGKILL
    assert read_jsonl(workdir / "metrics.jsonl")[-1]["step"] == 4
    assert not (workdir / "checkpoints" / "4").exists()

    with start(*command, PAUSE="0.01") as process:
        kill_after(process, workdir / "metrics.jsonl", step=5)
    assert process.returncode == -signal.SIGKILL
    assert 5 <= read_jsonl(workdir / "metrics.jsonl")[-1]["step"] < 8

    done = shell(*command)
    assert done.returncode == 0, done.stderr
    assert_same_run(workdir, finished)
    assert restored(workdir)[0] == restored(finished)[0]  # the best one is kept, too


def test_the_finished_command_again_changes_nothing(shell, small_run, finished):
    before = files(finished)
    done = shell(RUN, *small_run, f"--workdir={finished}")
    assert done.returncode == 0, done.stderr
    assert files(finished) == before


def test_more_steps_continue_as_if_they_had_been_asked_for_at_once(
    shell, small_run, finished, tmp_path
):
    workdir = tmp_path / "run"
    for steps in (5, 8):  # 5 is neither a multiple of checkpoint.every nor of eval.every
        done = shell(RUN, *small_run, f"--workdir={workdir}", f"--train.steps={steps}")
        assert done.returncode == 0, done.stderr
    assert json.loads((workdir / "config.json").read_text())["train.steps"] == 8
    assert_same_run(workdir, finished, extra_evaluation=5)  # once the last step
