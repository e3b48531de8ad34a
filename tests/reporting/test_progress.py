"""Both displays on real consoles, with a clock that the test turns."""

import io
import re

import numpy as np
import pytest
from rich.console import Console

from riskpo_jax.reporting.progress import Progress

METRICS = {
    "reward/mean": np.float32(0.4123),
    "policy/entropy": 0.53,
    "throughput/generated_tokens_per_s": 5120.4,
    "time/step_s": 0.61,
}


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def console(terminal):
    return Console(
        file=io.StringIO(), force_terminal=terminal, width=100, _environ={"TERM": "xterm"}
    )


def run(progress, clock, steps, seconds, metrics=METRICS):
    with progress:
        for step in steps:
            clock.now += seconds
            progress.update(step, metrics)


def test_plain_lines_first_last_and_every_interval():
    out, clock = console(False), Clock()
    run(Progress(25, console=out, interval=10, clock=clock), clock, range(1, 26), 2.0)
    lines = out.file.getvalue().splitlines()
    assert lines == [
        "step 1/25 reward 0.412 entropy 0.53 tokens/s 5120 step_s 0.61 left ?",
        "step 10/25 reward 0.412 entropy 0.53 tokens/s 5120 step_s 0.61 left 0:30",
        "step 20/25 reward 0.412 entropy 0.53 tokens/s 5120 step_s 0.61 left 0:10",
        "step 25/25 reward 0.412 entropy 0.53 tokens/s 5120 step_s 0.61 left 0:00",
    ]


def test_a_continued_run_counts_from_its_start_and_leaves_out_missing_metrics():
    out, clock = console(False), Clock()
    progress = Progress(10_000, 107, console=out, interval=10, clock=clock)
    run(progress, clock, range(108, 112), 1.0, {"reward/mean": 1.0, "policy/entropy": None})
    assert out.file.getvalue().splitlines() == [
        "step 108/10000 reward 1.000 left ?",
        "step 110/10000 reward 1.000 left 2:44:50",
    ]


def test_other_things_are_counted_under_their_own_names():
    fields = (("set", "dataset", "s"), ("responses/s", "rate", ".1f"))
    for terminal, first in ((False, "problems 50/130"), (True, "problems 100/130")):
        out, clock = console(terminal), Clock()
        shown = {"unit": "problems", "fields": fields, "plain_fields": fields, "interval": 1}
        progress = Progress(130, console=out, clock=clock, **shown)
        run(progress, clock, (50, 100), 5.0, {"dataset": "aime24", "rate": 12.25})
        text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.file.getvalue())
        last = text.strip().splitlines()[-1]
        assert first in text and last.endswith(" set aime24 responses/s 12.2 left 0:03")


def test_compilation_does_not_count_for_the_time_left():
    out, clock = console(False), Clock()
    clock.now = 500.0
    run(Progress(100, console=out, interval=1, clock=clock), clock, range(1, 51), 1.0)
    assert out.file.getvalue().splitlines()[-1].endswith("left 0:50")


def test_a_terminal_gets_a_live_bar():
    out, clock = console(True), Clock()
    run(Progress(200, 10, console=out, clock=clock), clock, (11, 12), 0.5)
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", out.file.getvalue())
    last = text.strip().splitlines()[-1]
    assert last.startswith("step 12/200")
    assert "━" in last
    assert last.endswith(" reward 0.412 entropy 0.53 tokens/s 5120 left 1:34")


@pytest.mark.parametrize("terminal", [True, False])
def test_print_keeps_brackets_and_long_lines(terminal):
    out = console(terminal)
    text = "[bold] " + "x" * 150
    with Progress(2, console=out) as progress:
        progress.print(text)
    assert text in out.file.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_an_exception_passes_and_gives_the_cursor_back(terminal):
    out = console(terminal)
    with pytest.raises(RuntimeError), Progress(2, console=out):
        raise RuntimeError
    assert out.file.getvalue().count("\x1b[?25l") == out.file.getvalue().count("\x1b[?25h")
