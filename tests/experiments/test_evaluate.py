"""The program that evaluates and the loop that evaluates agree."""

import json

import numpy as np

from experiments import evaluate
from riskpo_jax.evaluation.result import EvalResult
from riskpo_jax.reporting.files import read_jsonl


def strict(text: str):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(text, parse_constant=refuse)


def test_the_model_of_a_run_evaluates_to_the_run_s_last_rows(shell, finished, tmp_path):
    output = tmp_path / "rows.json"
    done = shell(
        "experiments.evaluate",
        f"--flagfile={finished / 'run.flags'}",
        f"--model.path={finished / 'model'}",
        f"--output={output}",
    )
    assert done.returncode == 0, done.stderr
    rows = strict(output.read_text())
    last = [row for row in read_jsonl(finished / "eval.jsonl") if row["step"] == 8]
    assert [row | {"step": 8} for row in rows] == last
    assert len(last) == 4 and "pass@4" in done.stdout and "easy" in done.stdout


def test_a_checkpoint_of_a_run_evaluates_to_the_run_s_rows(shell, finished, tmp_path):
    output = tmp_path / "rows.json"
    recorded = f"--flagfile={finished / 'run.flags'}"
    done = shell(
        "experiments.evaluate", recorded, f"--workdir={finished}", "--step=8", f"--output={output}"
    )
    assert done.returncode == 0, done.stderr
    assert strict(output.read_text()) == [
        row for row in read_jsonl(finished / "eval.jsonl") if row["step"] == 8
    ]
    done = shell("experiments.evaluate", recorded, f"--workdir={finished}", "--step=7")
    assert done.returncode == 1 and "holds no checkpoint of step 7; its steps are:" in done.stderr


def test_what_was_not_measured_is_null(call, monkeypatch, model_directory, tmp_path):
    """Greedy decoding has no entropy; the rows are strict JSON all the same."""
    shape_PxS = (1, 2)
    result = EvalResult(
        dataset="countdown",
        step=0,
        problem_ids=["p"],
        levels=["easy"],
        correct_PxS=np.zeros(shape_PxS, bool),
        answers=[["1", "1"]],
        outcomes=[["wrong", "wrong"]],
        lengths_PxS=np.ones(shape_PxS, int),
        truncated_PxS=np.zeros(shape_PxS, bool),
        entropy_PxS=np.full(shape_PxS, np.nan),
    )
    monkeypatch.setattr(evaluate.setup, "evaluate_policy", lambda *args, **kwargs: result)
    flags = [
        f"--model.path={model_directory}",
        "--data.prompt_template={numbers}={target}:",
        "--eval.samples=2",
        "--eval.k=1",
        f"--output={tmp_path / 'rows.json'}",
    ]
    status, _, err = call(evaluate, *flags, devices=True)
    assert (status, err) == (0, "")
    rows = strict((tmp_path / "rows.json").read_text())
    assert [(row["entropy"], row["pass@1"]) for row in rows] == [(None, 0.0)] * 2
