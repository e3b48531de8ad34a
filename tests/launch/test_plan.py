"""The program: what it prints, how it ends, and one real compilation for a TPU."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
needs_libtpu = pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None,
    reason="libtpu is not installed: TPU programs are not compiled (pip install -e '.[tpu]')",
)
# A small model's recipe on a slice of 4 chips.
SMALL = """\
--model.path=experiments/assets/tiny-bytes
--data.max_prompt_length=128
--data.questions_per_step=8
--algorithm.bundle_size=4
--rollout.max_response_length=128
--train.tokens_per_micro_batch=512
--rollout.slots=16
--rollout.tensor=2
--mesh.fsdp=2
--mesh.tensor=2
"""


def plan(*args: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "launch.plan", *args],
        env=os.environ | {"COLUMNS": "120"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.fixture(scope="module")
def flagfile(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("plan") / "small.flags"
    file.write_text(SMALL)
    return f"--flagfile={file}"


def test_bad_input_is_one_line_and_status_1():
    done = plan("--model=qwen2.5-7b", "--topology=v5e:5x5")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "error: --topology=v5e:5x5: v5e has no slice '5x5'; there are v5e:2x2, v5e:2x4, v5e:4x4, v5e:4x8, "
        "v5e:8x8, v5e:8x16, v5e:16x16\n"
    )


@needs_libtpu
def test_a_run_that_fits(flagfile):
    done = plan(flagfile, "--topology=v5e:2x2")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0] == "tiny-bytes on v5e:2x2, 4 chips: mesh data=1, fsdp=2, tensor=2"
    assert lines[1:4] == [
        "a step: 8 questions x 8 responses, up to 128 + 128 tokens; 512 tokens a data shard in a micro-batch",
        "sampling: 16 responses at the same time, 2 chips a copy of the model, KV cache compute",
        "parameters float32, moments float32, products float32, remat none",
    ]
    assert any("all-gather" in line and " x, " in line for line in lines)
    assert lines[-1].startswith("fits: 0.") and lines[-1].endswith(" of 15.75 GiB a chip at most")


@needs_libtpu
def test_a_run_that_does_not_fit(flagfile):
    """The state alone is too large, which needs no compiler."""
    done = plan(flagfile, "--model=qwen2.5-7b", "--topology=v5e:2x2")
    assert done.returncode == 1
    # 7,615,616,512 parameters, their gradients and two moments, of 4 bytes each, over 4 chips; what is
    # more are the states of the prompts and what the gradient wants of them
    assert done.stderr.startswith(
        "error: does not fit: gradient needs at least 28.43 GiB a chip, 12.68"
    )
    assert done.stderr.count("\n") == 1
    assert "give --train.moment_dtype=bfloat16 (now float32) and --model.param_dtype" in done.stderr
