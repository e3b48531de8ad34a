"""Runs a grid of settings and seeds, and reports what came out, with intervals over seeds:

    python -m experiments.sweep --flagfile=experiments/sweeps/NAME.sweep --workdir=DIR --jobs=2

Every cell is an ordinary run in a folder of its own, DIR/runs/VARIANT/seedN. The same command again runs
what is unfinished or failed; --report_only rebuilds DIR/report.md and its pictures from the folders.
"""

from __future__ import annotations

import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from absl import flags
from rich.console import Console

from experiments import flags as experiment_flags
from experiments.sweep_grid import Cell, Variant, make_cells, read_variants, unresolved_config
from experiments.sweep_runs import (
    Slot,
    is_finished,
    last_words,
    make_slots,
    only_one,
    run_all,
    seconds_spent,
)
from riskpo_jax.errors import UserError
from riskpo_jax.files import replacing
from riskpo_jax.reporting.measurement import check_folder
from riskpo_jax.sweeps.outcomes import Outcomes, load_outcomes
from riskpo_jax.sweeps.pictures import draw_pictures
from riskpo_jax.sweeps.report import Account, report

flags.adopt_module_key_flags(experiment_flags)
_TITLE = flags.DEFINE_string("title", "Sweep", "Heading of the report.")
_VARIANT = flags.DEFINE_multi_string(
    "variant", [], "NAME: --flag=value ...; once for each. Settings outside are shared by all."
)
_GRID = flags.DEFINE_multi_string(
    "grid", [], "SETTING=a|b|c; several, and variants, are crossed with each other."
)
_SEEDS = flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds of each variant.")
_BASELINE = flags.DEFINE_string(
    "baseline", None, "Variant that the others are compared with, seed by seed; default the first."
)
_JOBS = flags.DEFINE_integer("jobs", 1, "Runs at the same time; they divide the cores.", 1)
_GPUS = flags.DEFINE_integer("gpus_per_run", 0, "GPUs of each run; 0: every run sees all.", 0)
_RUNS = flags.DEFINE_string(
    "runs", None, "Folder of the runs, which several sweeps may share; default WORKDIR/runs."
)
_REPORT_ONLY = flags.DEFINE_boolean("report_only", False, "Run nothing; report on what is there.")


def main() -> None:
    console = Console()
    workdir = experiment_flags.required_path(experiment_flags.WORKDIR)
    variants = read_variants(_VARIANT.value, _GRID.value)
    baseline = _baseline(variants)
    runs = Path(_RUNS.value) if _RUNS.value else workdir / "runs"
    cells = make_cells(unresolved_config(), variants, _seeds(), runs)
    check_folder(workdir, "workdir")
    check_folder(runs, "runs")
    if not _REPORT_ONLY.value:
        # As Ctrl-C: the runs end with the sweep.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        slots = make_slots(_JOBS.value, _GPUS.value)
        with only_one(runs) as lock:
            run_unfinished(cells, slots, lock, console)
    unfinished = [cell for cell in cells if not is_finished(cell)]
    finished = [cell for cell in cells if cell not in unfinished]
    outcomes = load_outcomes(
        {v.name: {c.seed: c.path for c in finished if c.variant == v.name} for v in variants}
    )
    write_report(workdir, variants, cells, unfinished, outcomes, baseline)
    console.print(f"report: {workdir / 'report.md'}", soft_wrap=True, highlight=False)
    if unfinished:
        raise UserError(
            f"{len(unfinished)} of {len(cells)} runs did not finish: {workdir / 'report.md'} lists them, and "
            "the same command runs them again"
        )


def run_unfinished(
    cells: Sequence[Cell], slots: Sequence[Slot], lock: int, console: Console
) -> None:
    """Runs what is not finished yet, and says how each run ended."""
    todo = list({cell.path: cell for cell in cells if not is_finished(cell)}.values())
    done = len({cell.path for cell in cells}) - len(todo)
    console.print(f"{done + len(todo)} runs, {done} finished already", highlight=False)
    for number, cell in enumerate(run_all(todo, slots, lock), start=1):
        how = "finished" if is_finished(cell) else f"FAILED ({last_words(cell)})"
        seconds = f"{seconds_spent(cell):.0f} s"
        console.print(
            f"{number}/{len(todo)} {cell.variant}, seed {cell.seed}: {how} after {seconds}",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )


def write_report(
    workdir: Path,
    variants: Sequence[Variant],
    cells: Sequence[Cell],
    unfinished: Sequence[Cell],
    outcomes: Outcomes,
    baseline: str,
) -> None:
    """report.md and its pictures; the text first, which nothing that a picture lacks can hold up."""
    shared = experiment_flags.as_flagfile(unresolved_config(), experiment_flags.given_settings())
    account = Account(
        title=_TITLE.value,
        shared=shared,
        flags={variant.name: shlex.join(variant.overrides) for variant in variants},
        seeds=_seeds(),
        failures={f"{cell.variant}, seed {cell.seed}": last_words(cell) for cell in unfinished},
        hours=sum(map(seconds_spent, {cell.path: cell for cell in cells}.values())) / 3600,
    )
    text = report(account, outcomes, baseline)
    with replacing(workdir / "report.md") as aside:
        aside.write_text(text)
    pictures = draw_pictures(workdir, outcomes, baseline)
    with replacing(workdir / "report.md") as aside:
        aside.write_text(text + "".join(f"\n![{path.stem}]({path.name})\n" for path in pictures))


def _baseline(variants: Sequence[Variant]) -> str:
    names = [variant.name for variant in variants]
    if _BASELINE.value is not None and _BASELINE.value not in names:
        raise UserError(f"--baseline={_BASELINE.value} is none of the variants: {'; '.join(names)}")
    return _BASELINE.value or names[0]


def _seeds() -> list[int]:
    try:
        seeds = [int(word) for word in _SEEDS.value]
    except ValueError:
        seeds = []
    if not seeds or len(set(seeds)) < len(seeds):
        raise UserError(f"--seeds={','.join(_SEEDS.value)} must be different whole numbers")
    return seeds


if __name__ == "__main__":
    experiment_flags.run(main)
