"""The programs that measure policies, end to end on a small run's checkpoints.

In processes of their own: their --model is another flag than that of experiments.evaluate.
"""

import json
import shutil

import numpy as np
import pytest

from experiments import on_policy
from riskpo_jax.errors import UserError
from riskpo_jax.training.source import Source

ASSUMPTION_1, GRADIENT_NOISE = "experiments.assumption_1", "experiments.gradient_noise"


def read(file):
    def refuse(constant):
        raise AssertionError(f"{constant} is not JSON")

    return json.loads(file.read_text(), parse_constant=refuse)


def steps_of(run):
    return sorted(int(place.name) for place in (run / "checkpoints").iterdir())


def test_assumption_1_of_a_run_s_checkpoints(shell, finished, tmp_path):
    done = shell(
        ASSUMPTION_1,
        f"--model={finished}",
        f"--out={tmp_path}",
        "--batches=3",
        "--temperatures=0.5,1",
    )
    assert done.returncode == 0, done.stderr
    result = read(tmp_path / "assumption_1.json")
    cells = result["cells"]
    policies = {(cell["step"], cell["temperature"]) for cell in cells}
    assert policies == {(step, t) for step in steps_of(finished) for t in (0.5, 1)}
    assert {cell["level"] for cell in cells} == {"all", "easy", "medium", "hard"}
    for cell in cells:
        shares = [row["share"] for row in cell["bundle"]["log pi"]["psi"]]
        assert sum(shares) == pytest.approx(1) and cell["questions"] <= 30
        assert 0 < cell["reward"] < 1 and cell["entropy"] > 0
    of_all = {(c["step"], c["temperature"]): c["entropy"] for c in cells if c["level"] == "all"}
    assert all(of_all[step, 0.5] < of_all[step, 1] for step in steps_of(finished))
    assert all(
        sum(v for k, v in row.items() if k != "test") == len(cells) for row in result["verdicts"]
    )
    assert (tmp_path / "assumption_1.png").read_bytes().startswith(b"\x89PNG")
    assert "Theorem 2: raw" in done.stdout and "…" not in done.stdout


def test_what_was_measured_survives_a_model_that_fails_later(shell, finished, tmp_path):
    broken = tmp_path / "broken"
    shutil.copytree(finished, broken)
    for file in (broken / "checkpoints" / "8").rglob("*"):
        if file.is_file():
            file.write_bytes(b"")
    done = shell(
        ASSUMPTION_1,
        f"--model={finished / 'checkpoints' / '8'}",
        f"--model={broken / 'checkpoints' / '8'}",
        f"--out={tmp_path / 'out'}",
        "--batches=1",
        "--algorithm.levels=adaptive",
    )
    assert done.returncode != 0
    result = read(tmp_path / "out" / "assumption_1.json")
    assert result["cells"] and {cell["step"] for cell in result["cells"]} == {8}
    line = next(x for x in done.stdout.splitlines() if x.startswith(f"{finished}"))
    assert "levels=adaptive" in line and "as given, 0.2 and 0.8" in line


def test_gradient_noise_of_a_checkpoint(shell, finished, tmp_path):
    done = shell(
        GRADIENT_NOISE,
        f"--model={finished / 'checkpoints' / '8'}",
        f"--out={tmp_path}",
        "--batches=5",
    )
    assert done.returncode == 0, done.stderr
    result = read(tmp_path / "gradient_noise.json")
    assert result["model"]["step"] == 8 and result["batches"] == 5
    rows = {row["estimator"]: row for row in result["rows"]}
    assert len(rows) == 13 and "MVaR, uniform, stratified" in done.stdout
    assert rows["mean reward"]["cosine_mean_reward"][0] == pytest.approx(1)
    assert rows["MVaR, expected, random"]["cosine_expected_mvar"][0] == pytest.approx(1)
    names, noise = list(result["estimators"]), result["statistics"]["noise"]["value"]
    of = dict(zip(names, noise, strict=True))
    assert of["MVaR, expected, random"] < of["MVaR, uniform, random"]
    assert np.isfinite(noise).all() and min(noise) > 0
    assert (tmp_path / "gradient_noise.png").exists()


def test_gradients_that_would_not_fit(shell, finished, tmp_path):
    limits = ("--batches=9", "--max_gb=0.001")
    done = shell(GRADIENT_NOISE, f"--model={finished}", f"--out={tmp_path}", *limits)
    assert done.returncode == 1 and done.stderr.count("\n") == 1, done.stderr
    assert (
        done.stderr.startswith("error: 9 batches x 13 estimators x ")
        and "--max_gb=0.001" in done.stderr
    )


def test_no_model_is_one_line(shell, tmp_path):
    done = shell(ASSUMPTION_1, f"--out={tmp_path / 'out'}", f"--model={tmp_path / 'none'}")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert f"--model={tmp_path / 'none'} is no run's folder" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_run_s_folder_is_all_its_checkpoints(finished, model_directory):
    found = on_policy.sources_at(finished, {}, "model")
    assert [source.step for source in found] == steps_of(finished) and len(found) > 1
    (one,) = on_policy.sources_at(finished / "checkpoints" / "8", {}, "model")
    assert one.step == 8
    (directory,) = on_policy.sources_at(model_directory, {}, "model")
    assert directory.run is None


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [tmp_path / "grpo" / "seed0", tmp_path / "paper" / "seed0" / "checkpoints" / "8"]
    assert on_policy.names_of(runs[:1]) == ["seed0"]
    assert on_policy.names_of(runs) == ["grpo/seed0", "paper/seed0"]
    assert on_policy.names_of([runs[1], runs[1].parents[1]]) == ["seed0", "seed0"]


def test_a_group_of_one_has_no_other_to_compare_with(model_directory):
    (source,) = on_policy.sources_at(model_directory, {}, "model")
    assert isinstance(source, Source)
    with pytest.raises(UserError, match="--rollout.group_size=1 leaves nothing"):
        on_policy.settings_of(source, {"rollout.group_size": 1})
