"""One JSON line a workload; on a tiny one, because what is tested is not how fast it is."""

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest

from experiments import benchmark, ceilings, machine, workloads
from experiments.workloads import WORKLOADS, Workload
from riskpo_jax.models.config import DecoderConfig

TINY = Workload(
    DecoderConfig(
        vocab_size=61,
        hidden_size=32,
        intermediate_size=48,
        num_layers=2,
        num_heads=4,
        num_kv_heads=2,
        head_dim=8,
        tie_embeddings=True,
    ),
    questions=4,
    prompt_length=5,
    group_size=2,
    response_length=6,
    dtype="float32",
    mean_response_length=3,
)


@pytest.fixture(scope="module")
def small_ceilings():
    """The ceilings of products and copies that take no time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ceilings, "_PRODUCT_SIZE", {"cpu": 64})
        patch.setattr(ceilings, "_COPY_BYTES", {"cpu": 2**16})
        yield


def test_the_line(call, monkeypatch, small_ceilings):
    monkeypatch.setitem(WORKLOADS, "w_tiny", TINY)
    flags = "--workload=w_tiny", "--repeats=3", "--train.tokens_per_micro_batch=64", "--profile"
    status, out, err = call(benchmark, *flags, devices=True)
    assert status == 0, err
    assert out.count("\n") == 1
    line = json.loads(out)
    assert line["workload"] == "w_tiny" and line["repeats"] == 3
    for name in ("rollout_s", "update_s", "step_s"):
        assert 0 < line[f"{name}_min"] <= line[name] <= line[f"{name}_max"]
        assert line[f"{name}_to_packed"] > 0
    assert line["rollout_s"] + line["update_s"] == pytest.approx(line["step_s"], rel=0.5)
    assert line["cold_s"] > line["first_step_s"] > line["step_s_max"]  # it compiled
    assert line["compilations"] >= 2 and line["compile_s"] > 0
    assert line["peak_memory_bytes"] > 2**20
    assert line["generated_tokens"] == pytest.approx(
        line["generated_tokens_per_s"] * line["rollout_s"], rel=1e-3
    )
    assert line["update_mfu"] * line["matrix_product_flops_per_s"] == pytest.approx(
        line["update_flops"] / line["update_s"], rel=2e-3
    )
    assert line["update_flops"] == 3 * line["rollout_flops"]
    profile = line["profile"]
    assert {"add: backward attention", "apply: optimizer"} <= set(profile["parts_s"])
    assert any(part.endswith(": sampling") for part in profile["parts_s"])
    assert 0 < sum(profile["parts_s"].values()) <= 1.01 * profile["operations_s"]


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--workload=w_large", "--workload=w_large is not one of w_small, w_tail, w_1.5b"),
        ("--rollout.group_size=2", "--rollout.group_size is fixed by the workload"),
        ("--data.path=x", "--data.path means nothing to this program"),
        ("--model.path=x", "--model.path means nothing to this program"),
        ("--train.tokens_per_micro_batch=-1", "--train.tokens_per_micro_batch=-1"),
    ],
)
def test_bad_input_is_one_line(flag, complaint, call):
    status, out, err = call(benchmark, flag)
    assert (status, out) == (1, "") and err.count("\n") == 1
    assert err.startswith("error: ") and complaint in err


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_reference_workloads_are_settings_of_a_run(name, call):
    """They resolve, and reach the devices."""
    assert call(benchmark, f"--workload={name}")[0] == 99


def test_lengths_of_the_tail():
    lengths = WORKLOADS["w_tail"].lengths_QxG()
    assert lengths.shape == (16, 8) and lengths.min() >= 1 and lengths.max() <= 512
    np.testing.assert_array_equal(lengths, WORKLOADS["w_tail"].lengths_QxG())
    assert abs(lengths.mean() - 48) < 2 * 48 / np.sqrt(128)  # two standard errors
    assert (WORKLOADS["w_small"].lengths_QxG() == 128).all()
    assert (TINY.lengths_QxG() <= TINY.response_length).all()
    assert workloads.workload("w_small") is WORKLOADS["w_small"]


def test_medians_of_steps_and_their_tokens():
    def of(rollout_s, update_s):
        lengths = np.array([[3, 1], [2, 2]])
        return benchmark.StepTimes(rollout_s, update_s, lengths)

    line = benchmark.summary([of(1.0, 4.0), of(2.0, 1.0), of(4.0, 2.0)])
    assert (line["rollout_s"], line["update_s"], line["step_s"]) == (2.0, 2.0, 5.0)
    assert (line["step_s_min"], line["step_s_max"]) == (3.0, 6.0)
    assert line["generated_tokens_per_s"] == 8 / 2.0


def test_ceilings_count_what_they_time(monkeypatch):
    monkeypatch.setattr(ceilings, "best_seconds", lambda run, repeats: run().nbytes and 2.0)
    assert ceilings.matrix_product_flops_per_s("bfloat16", 8) == 2 * 8**3 / 2.0
    assert ceilings.copy_bytes_per_s(4096) == 2 * 4096 / 2.0


def test_the_peak_is_the_fullest_devices(monkeypatch):
    def device(peak):
        return SimpleNamespace(memory_stats=lambda: peak and {"peak_bytes_in_use": peak})

    monkeypatch.setattr(machine.jax, "local_devices", lambda: [device(5), device(7)])
    assert machine.peak_bytes() == 7
    monkeypatch.setattr(machine.jax, "local_devices", lambda: [device(None)])
    assert machine.peak_bytes() > 2**20  # of the process


def test_what_others_compute_is_told_from_what_this_process_does():
    before = machine.others_seconds()
    if before is None:
        pytest.skip("no /proc")
    subprocess.run([sys.executable, "-c", "import time\nwhile time.process_time() < 0.5: pass"])
    assert machine.others_seconds() - before >= 0.4  # of the 0.5, in ticks of 0.01
    line = [benchmark.StepTimes(1.0, 1.0, np.ones((1, 1)))]
    assert benchmark.others_cpus(None, line) is None
    assert benchmark.others_cpus(machine.others_seconds() - 3.0, line) >= 1.45


def test_seconds_since_the_process_began():
    first = machine.process_seconds()
    assert first is None or 0 < first <= machine.process_seconds() < 1e6
