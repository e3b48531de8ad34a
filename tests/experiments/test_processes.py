"""One run in two processes is the run of one: all its files, after a failure and a resumption, too."""

import os
import socket
import subprocess
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from riskpo_jax.evaluation import store
from riskpo_jax.reporting.evaluation_dir import EvaluationDir
from riskpo_jax.reporting.files import read_jsonl

RUN = "experiments.run"
MESH = ("--mesh.data=2", "--mesh.fsdp=2", "--mesh.tensor=2")
LIMIT_S = 180


def devices(count: int) -> dict[str, str]:
    flags = os.environ["XLA_FLAGS"]
    return {"XLA_FLAGS": f"{flags} --xla_force_host_platform_device_count={count}"}


@pytest.fixture
def pair(start):
    """pair(module, *args, **environment of the second): two connected processes of four devices each."""

    def pair(*args, **environment) -> list[subprocess.CompletedProcess]:
        with socket.socket() as free:
            free.bind(("localhost", 0))
            where = f"--distributed.coordinator=localhost:{free.getsockname()[1]}"
        command = (*args, where, "--distributed.num_processes=2")
        ids = ("--distributed.process_id=0", "--distributed.process_id=1")
        own = ({}, environment)
        running = [start(*command, id, **devices(4), **e) for id, e in zip(ids, own, strict=True)]
        ended = []
        try:
            for process in reversed(running):
                out, err = process.communicate(timeout=LIMIT_S)
                ended.append(
                    subprocess.CompletedProcess(process.args, process.returncode, out, err)
                )
        finally:
            for process in running:
                process.kill()
        return ended[::-1]

    return pair


@pytest.fixture
def three_steps(small_run) -> list[str]:
    """The small run for eight devices, shorter; evaluated and saved after steps 2 and 3."""
    return [
        *small_run,
        *MESH,
        "--data.questions_per_step=8",
        "--algorithm.bundle_size=4",
        "--rollout.group_size=2",
        "--train.steps=3",
        "--eval.every=2",
        "--eval.samples=2",
        "--eval.k=1,2",
        "--eval.batch_size=4",
        "--report.samples_every=1",
    ]


def own_lines(stderr: str) -> list[str]:
    """Without the warnings of XLA's compiler."""
    return [line for line in stderr.splitlines() if "spmd_partitioner.cc" not in line]


def assert_close(found, expected, where: str = "") -> None:
    """Equal but for floats, which may differ by 1e-5, and for times."""
    if isinstance(expected, dict):
        timeless = {
            k: v
            for k, v in expected.items()
            if not k.startswith(("time/", "throughput/", "compile/"))
        }
        assert found.keys() == expected.keys(), where
        for key, value in timeless.items():
            assert_close(found[key], value, f"{where}/{key}")
    elif isinstance(expected, list):
        assert len(found) == len(expected), where
        for n, (x, y) in enumerate(zip(found, expected, strict=True)):
            assert_close(x, y, f"{where}/{n}")
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-5), where
    else:
        assert found == expected, where


def assert_same_run(found: Path, expected: Path) -> None:
    for name in ("metrics.jsonl", "eval.jsonl", "samples.jsonl"):
        assert_close(read_jsonl(found / name), read_jsonl(expected / name), name)
    for step in (0, 2, 3):
        one, other = (
            store.load(run / "evaluations", step, "countdown") for run in (found, expected)
        )
        np.testing.assert_array_equal(one.correct_PxS, other.correct_PxS)
        assert one.answers == other.answers
    weights, others = (load_file(run / "model" / "model.safetensors") for run in (found, expected))
    assert weights.keys() == others.keys()
    for name, array in weights.items():
        np.testing.assert_allclose(array, others[name], rtol=1e-5, atol=1e-5, err_msg=name)
    names = [
        {str(path.relative_to(run)) for path in run.rglob("*") if "checkpoints" not in path.parts}
        for run in (found, expected)
    ]
    assert names[0] == names[1]
    assert (found / "config.json").read_text() == (expected / "config.json").read_text()


def test_two_processes_give_the_run_of_one_also_after_one_of_them_failed(
    shell, pair, three_steps, tmp_path
):
    alone, together = tmp_path / "alone", tmp_path / "together"
    done = shell(RUN, *three_steps, f"--workdir={alone}", **devices(8))
    assert done.returncode == 0, done.stderr

    # In the third step: a process grades one response when it starts and 8 of the 16 of every step.
    main, other = pair(RUN, *three_steps, f"--workdir={together}", LIE_AT="train:20")
    reason = "the reward returned 'correct' for problem countdown-train-"
    assert (main.returncode, other.returncode) == (1, 1)
    for process, start in ((main, f"error: process 1: {reason}"), (other, f"error: {reason}")):
        (line,) = own_lines(process.stderr)
        assert line.startswith(start)
    assert [row["step"] for row in read_jsonl(together / "metrics.jsonl")] == [1, 2]
    assert not (together / "model").exists()

    main, other = pair(RUN, *three_steps, f"--workdir={together}")
    assert (main.returncode, other.returncode) == (0, 0), main.stderr + other.stderr
    assert (
        "continuing after step 2" in main.stdout and "countdown: step 0 and step 3" in main.stdout
    )
    assert own_lines(main.stderr) == own_lines(other.stderr) == []
    for said in ("prompt of", "continuing", "evaluating", "step 3/3", "model:"):
        assert said in main.stdout and said not in other.stdout  # beside what its collectives print
    assert_same_run(together, alone)

    # Evaluated by itself, the last checkpoint gives what the run had.
    output = tmp_path / "evaluation"
    main, other = pair("experiments.evaluate", f"--model={together}", f"--output={output}")
    assert (main.returncode, other.returncode) == (0, 0), main.stderr + other.stderr
    rows = [row for row in read_jsonl(together / "eval.jsonl") if row["step"] == 3]
    assert_close(EvaluationDir(output).finished_rows(), rows)
