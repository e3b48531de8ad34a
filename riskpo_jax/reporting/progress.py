"""Progress of a run: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.progress import Progress as Bar

Fields = tuple[tuple[str, str, str], ...]
"""Label, key of the value, format."""

# Of a run: keys in metrics.jsonl.
FIELDS: Fields = (
    ("reward", "reward/mean", ".3f"),
    ("entropy", "policy/entropy", ".2f"),
    ("tokens/s", "throughput/generated_tokens_per_s", ".0f"),
)
_PLAIN_FIELDS: Fields = (*FIELDS, ("step_s", "time/step_s", ".2f"))
_WINDOW = 50  # steps whose mean duration predicts the time left


class Progress:
    """Shows how far something is, some of its figures, and the time left.

        with Progress(total=200, start=12) as progress:
            progress.update(13, metrics)

    Args:
      total: the last step.
      start: steps done before, by the run which this one continues.
      console: where to; its `is_terminal` chooses between bar and lines.
      interval: without a terminal, a line every so many steps, besides the first and the last.
      unit: what is counted.
      fields: what is shown on a bar; plain_fields: in a line.
      clock: seconds, monotonic.
    """

    def __init__(
        self,
        total: int,
        start: int = 0,
        *,
        console: Console | None = None,
        interval: int = 10,
        unit: str = "step",
        fields: Fields = FIELDS,
        plain_fields: Fields = _PLAIN_FIELDS,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._total, self._start, self._interval, self._clock = total, start, interval, clock
        self._unit, self._fields, self._plain_fields = unit, fields, plain_fields
        self._console = console or Console()
        self._times = deque(maxlen=_WINDOW)  # (step, clock) of recent updates
        self._bar = self._make_bar() if self._console.is_terminal else None

    def __enter__(self) -> Self:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(self, *_) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, step: int, metrics: Mapping[str, Any]) -> None:
        """Reports that `step` is done; metrics that are missing are not shown."""
        first = not self._times
        self._times.append((step, self._clock()))
        left = _clock_face(self._seconds_left())
        if self._bar:
            self._bar.update(
                self._task, completed=step, text=f"{_text(metrics, self._fields)}left {left}"
            )
        elif first or step >= self._total or step % self._interval == 0:
            text = _text(metrics, self._plain_fields)
            self.print(f"{self._unit} {step}/{self._total} {text}left {left}")

    def print(self, *objects: Any) -> None:
        """Prints above the bar; strings as they are, rich renderables (tables) rendered."""
        self._console.print(*objects, markup=False, highlight=False, soft_wrap=True)

    def _seconds_left(self) -> float | None:
        """Unknown after one update: the time to the first is mostly compilation."""
        (first_step, first_time), (step, now) = self._times[0], self._times[-1]
        if step >= self._total:
            return 0.0
        if step == first_step:
            return None
        return (now - first_time) / (step - first_step) * (self._total - step)

    def _make_bar(self) -> Bar:
        bar = Bar(
            TextColumn(f"{self._unit} {{task.completed}}/{{task.total}}"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[text]}", markup=False),
            console=self._console,
            expand=True,
        )
        self._task = bar.add_task("", total=self._total, completed=self._start, text="compiling")
        return bar


def _text(metrics: Mapping[str, Any], fields: Fields) -> str:
    shown = [
        (label, metrics[key], form) for label, key, form in fields if metrics.get(key) is not None
    ]
    return "".join(
        f"{label} {value if isinstance(value, str) else float(value):{form}} "
        for label, value, form in shown
    )


def _clock_face(seconds: float | None) -> str:
    """1:54, or 2:03:05 from an hour on; "?" when unknown."""
    if seconds is None:
        return "?"
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
