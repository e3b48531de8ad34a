"""A program starts itself again with huge pages, once, and only where they help."""

import os
import subprocess
import sys

import pytest

from experiments import huge_pages

HUGE = "glibc.malloc.hugetlb=1"


@pytest.fixture
def restart(monkeypatch, tmp_path):
    """restart(variable, libc, kernel) -> the variable that the process is started again with, or None."""

    def restart(before, libc=("glibc", "2.36"), kernel="always [madvise] never"):
        started = []
        (tmp_path / "enabled").write_text(kernel)
        monkeypatch.setattr(huge_pages, "_KERNEL", tmp_path / "enabled")
        monkeypatch.setattr(huge_pages.platform, "libc_ver", lambda: libc)
        monkeypatch.setattr(os, "execve", lambda *args: started.append(args))
        monkeypatch.setenv("GLIBC_TUNABLES", before)
        huge_pages.restart_with_huge_pages()
        if not started:
            return None
        ((program, arguments, environment),) = started
        assert program == sys.executable and arguments == sys.orig_argv
        assert environment.keys() == os.environ.keys()
        return environment["GLIBC_TUNABLES"]

    return restart


def test_the_variable_is_set_beside_what_it_says_already(restart):
    assert restart("") == HUGE
    assert restart("glibc.malloc.check=3") == f"glibc.malloc.check=3:{HUGE}"


def test_nothing_happens_where_it_would_not_help_or_was_decided(restart):
    assert restart(HUGE) is None
    assert restart("glibc.malloc.hugetlb=0") is None
    assert restart("", libc=("glibc", "2.31")) is None
    assert restart("", libc=("", "")) is None
    assert restart("", kernel="[always] madvise never") is None
    assert restart("", kernel="always madvise [never]") is None


def test_a_program_is_started_again_once(tmp_path):
    """With its own arguments, and the answer of the second start."""
    environment = {k: v for k, v in os.environ.items() if k != "GLIBC_TUNABLES"}
    program = [sys.executable, "-m", "experiments.benchmark", "--workload=w_nothing"]
    run = subprocess.run(program, env=environment, capture_output=True, text=True)
    assert run.returncode != 0 and run.stderr.count("--workload=w_nothing is not one of") == 1
