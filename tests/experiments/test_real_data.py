"""One step on real GSM8K rows: JSONL, byte tokens, a random model and the math grader together."""

import pytest

from riskpo_jax.reporting.files import read_jsonl
from riskpo_jax.rewards.outcome import Kind


def test_a_step_on_gsm8k_counts_every_outcome(shell, shared_data, tmp_path):
    with (shared_data / "gsm8k_train.jsonl").open(encoding="utf-8") as lines:
        rows = [next(lines) for _ in range(20)]
    (tmp_path / "gsm8k.jsonl").write_text("".join(rows), encoding="utf-8")
    workdir = tmp_path / "run"
    done = shell(
        "experiments.run",
        f"--workdir={workdir}",
        "--model.path=experiments/assets/tiny-bytes",
        "--model.init=random",
        "--data.source=jsonl",
        f"--data.path={tmp_path / 'gsm8k.jsonl'}",
        r"--data.prompt_template={problem}\nAnswer:",
        "--data.max_prompt_length=256",
        "--data.questions_per_step=5",
        "--reward.name=math",
        "--rollout.group_size=2",
        "--rollout.max_response_length=8",
        "--algorithm.bundle_size=5",
        "--train.steps=1",
        "--report.samples_every=1",
        "--report.tensorboard=false",
    )
    assert done.returncode == 0, done.stderr
    assert "skipped" in done.stdout  # some of the 20 are longer than 256 bytes
    (row,) = read_jsonl(workdir / "metrics.jsonl")
    assert sum(row[f"reward/{kind}"] for kind in Kind) == pytest.approx(1)
    assert row["reward/timeout"] == row["reward/error"] == 0
    asked = {sample["problem"] for sample in read_jsonl(workdir / "samples.jsonl")}
    assert asked and all(any(problem[:20] in line for line in rows) for problem in asked)
