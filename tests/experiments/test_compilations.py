"""A run compiles each program once: the same function for the same shapes a second time is an error."""

import re
from collections import Counter

import jax
import pytest

from riskpo_jax.reporting.files import read_jsonl

COMPILING = re.compile(
    r"Compiling (jit\(.*?\)) with global shapes and types (.*?)\. Argument mapping"
)


def repeated(log: str) -> list[tuple[str, str]]:
    """Function and shapes of what JAX_LOG_COMPILES reports more than once.

    JAX's own small functions are left out: they have arguments that are not in the log.
    """
    return [
        (name, shapes)
        for (name, shapes), n in Counter(COMPILING.findall(log)).items()
        if n > 1 and not is_jaxs_own(name.removeprefix("jit(").removesuffix(")"))
    ]


def is_jaxs_own(name: str) -> bool:
    return name.startswith("_threefry") or hasattr(jax.lax, name) or hasattr(jax.numpy, name)


@pytest.fixture(scope="module")
def logged(shell, small_run, tmp_path_factory):
    """The log and the metrics of a run of 4 steps without evaluations."""
    workdir = tmp_path_factory.mktemp("logged") / "run"
    flags = "--train.steps=4", "--eval.every=0", "--eval.problems=1", "--checkpoint.every=4"
    flags += ("--compile.worst_case_first=yes",)
    done = shell(
        "experiments.run", *small_run, *flags, f"--workdir={workdir}", JAX_LOG_COMPILES="1"
    )
    assert done.returncode == 0, done.stderr
    return done.stderr, list(read_jsonl(workdir / "metrics.jsonl"))


def test_no_program_is_compiled_twice(logged):
    log, _ = logged
    compiled = {name for name, _ in COMPILING.findall(log)}
    assert {"jit(_add)", "jit(decode)", "jit(_first_state)"} <= compiled
    assert not repeated(log)


def test_only_the_first_steps_compile_and_the_metrics_say_so(logged):
    counts = [row["compile/count"] for row in logged[1]]
    assert counts[0] >= 2 and counts[1:] == [0, 0, 0]


def test_a_second_compile_would_be_seen():
    def line(size):
        return (
            f"Compiling jit(f) with global shapes and types (ShapedArray(f32[{size}]),). "
            "Argument mapping: (None,).\n"
        )

    assert repeated(line(3) + line(4)) == []
    assert repeated(line(3) + line(4) + line(3)) == [("jit(f)", "(ShapedArray(f32[3]),)")]
