"""The wrappers hand a program's arguments on as they are, and a dry run runs nothing."""

import os
import subprocess
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
ARGUMENTS = [
    "--flagfile=a b.flags",
    "--data.answer_instruction=It's $HOME \\boxed{}",
    "--workdir=gs://x",
]
AUTO = "--distributed.coordinator=auto"
RECORD = '#!/bin/bash\nprintf "%s\\0" "$@" > "$RECORDS/python"\n'
# What stands in for the hosts' own programs: they run what they are told, here.
GCLOUD = """#!/bin/bash
echo "${@:1:$#-1}" >> "$RECORDS/gcloud"
cd "$RECORDS" && exec bash -c "${!##--command=}"
"""
SRUN = '#!/bin/bash\nshift\nexec "$@"\n'


@pytest.fixture
def wrapper(tmp_path):
    """wrapper(name, *arguments, **environment) -> the finished process; programs are stand-ins."""

    def executable(file: Path, text: str) -> None:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(0o755)

    executable(tmp_path / "bin" / "gcloud", GCLOUD)
    executable(tmp_path / "bin" / "srun", SRUN)
    executable(tmp_path / "riskpo" / ".venv-tpu" / "bin" / "python", RECORD)
    executable(tmp_path / "environment" / "bin" / "python", RECORD)

    def wrapper(name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess:
        base = os.environ | {
            "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
            "RECORDS": str(tmp_path),
            "ENVIRONMENT": str(tmp_path / "environment"),
            "REPOSITORY": "riskpo",
        }
        return subprocess.run(
            [LAUNCH / name, *arguments],
            env=base | environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    return wrapper


def recorded(folder: Path) -> list[str]:
    return (folder / "python").read_text().split("\0")[:-1]


@pytest.mark.parametrize(
    ("name", "added", "environment"),
    [
        ("gpu_host.sh", [], {}),
        ("slurm.sbatch", [AUTO], {}),
        ("tpu_vm.sh", [AUTO], {"TPU": "pod", "ZONE": "us-east5-a"}),
    ],
)
def test_the_program_gets_the_arguments(wrapper, tmp_path, name, added, environment):
    done = wrapper(name, "experiments.run", *ARGUMENTS, **environment)
    assert done.returncode == 0, done.stderr
    assert recorded(tmp_path) == ["-m", "experiments.run", *added, *ARGUMENTS]


@pytest.mark.parametrize("name", ["gpu_host.sh", "slurm.sbatch", "tpu_vm.sh"])
def test_a_dry_run_prints_the_commands_alone(wrapper, tmp_path, name):
    where = {"TPU": "pod", "ZONE": "us-east5-a", "ENVIRONMENT": str(tmp_path / "none")}
    done = wrapper(name, "experiments.run", "--dry_run", *ARGUMENTS, **where)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert all(line.startswith("+ ") for line in lines)
    assert "experiments.run" in lines[-1] and "--dry_run" not in done.stdout
    assert not (tmp_path / "python").exists() and not (tmp_path / "gcloud").exists()


def test_the_tpu_vm_is_named_and_all_of_its_hosts_are_asked(wrapper, tmp_path):
    wrapper("tpu_vm.sh", "experiments.run", TPU="pod", ZONE="us-east5-a")
    line = "compute tpus tpu-vm ssh pod --zone=us-east5-a --worker=all"
    assert (tmp_path / "gcloud").read_text().splitlines() == [line, line]  # set up, then run


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("gpu_host.sh", [], "name a program: "),
        ("slurm.sbatch", ["rm", "-rf"], "rm is not one of experiments.*"),
        ("tpu_vm.sh", ["experiments.run"], "TPU and ZONE name the TPU VM"),
    ],
)
def test_bad_input_is_one_line_and_status_2(wrapper, name, arguments, said):
    done = wrapper(name, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"error: {said}") and done.stderr.count("\n") == 1
