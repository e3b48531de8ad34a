"""The table of docs/scaling.md: `python -m launch.scaling_table`, a few minutes a row.

`--only=7b,v5p` makes the rows of those models or slices.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

from absl import flags

import launch.without_hardware  # noqa: F401  before JAX is imported
from experiments import flags as experiment_flags
from launch.measure import GIB
from launch.plan import Plan, make_plan
from launch.programs import ROLLOUT, UPDATE
from launch.topology import describe_topology, parse_mesh
from launch.workload import find_model, reference_config

ONLY = flags.DEFINE_list("only", [], "Parts of models' or slices' names; default: all rows.")


@dataclass(frozen=True)
class Case:
    """A model on a slice with a mesh: of those that fit, one whose fsdp leaves whole tiles of the width.

    rollout_tensor: chips that share a copy of the model while sampling, as few as leave room for the KV
    cache, or 0, the layout of training.
    """

    model: str
    topology: str
    mesh: str
    rollout_tensor: int


CASES = (
    Case("Qwen2.5-1.5B", "v5e:4x4", "data=1,fsdp=16,tensor=1", 1),
    Case("Qwen2.5-1.5B", "v5e:16x16", "data=8,fsdp=32,tensor=1", 1),
    Case("Qwen2.5-1.5B", "v5p:4x4x4", "data=4,fsdp=16,tensor=1", 1),
    Case("Qwen2.5-1.5B", "v5p:8x8x8", "data=32,fsdp=16,tensor=1", 1),
    Case("Qwen2.5-7B", "v5e:4x4", "data=1,fsdp=4,tensor=4", 4),
    Case("Qwen2.5-7B", "v5e:16x16", "data=2,fsdp=32,tensor=4", 2),
    Case("Qwen2.5-7B", "v5p:4x4x4", "data=2,fsdp=32,tensor=1", 1),
    Case("Qwen2.5-7B", "v5p:8x8x8", "data=16,fsdp=32,tensor=1", 1),
    Case("Qwen2.5-32B", "v5e:4x4", "data=1,fsdp=2,tensor=8", 0),
    Case("Qwen2.5-32B", "v5e:16x16", "data=1,fsdp=32,tensor=8", 8),
    Case("Qwen2.5-32B", "v5p:4x4x4", "data=1,fsdp=16,tensor=4", 2),
    Case("Qwen2.5-32B", "v5p:8x8x8", "data=2,fsdp=64,tensor=4", 2),
    Case("Llama-3.1-70B", "v5e:4x4", "data=1,fsdp=2,tensor=8", 0),
    Case("Llama-3.1-70B", "v5e:16x16", "data=1,fsdp=32,tensor=8", 0),
    Case("Llama-3.1-70B", "v5p:4x4x4", "data=1,fsdp=16,tensor=4", 4),
    Case("Llama-3.1-70B", "v5p:8x8x8", "data=1,fsdp=64,tensor=8", 4),
)
HEADER = (
    "| model | slice | data x fsdp x tensor | rollout.tensor | update | rollout | of | FLOPs | compute | "
    "sent | |\n|---|---|---|---|---|---|---|---|---|---|---|"
)


def main() -> None:
    wanted = [word.lower() for word in ONLY.value]
    begun = False
    for case in CASES:
        if wanted and not any(word in f"{case.model} {case.topology}".lower() for word in wanted):
            continue
        plan = make_case(case)
        if not begun:
            print(HEADER)
            begun = True
        print(row(plan), flush=True)
        if reason := plan.misfit():
            print(reason, file=sys.stderr, flush=True)


def make_case(case: Case) -> Plan:
    """The plan of the reference workload."""
    chip, devices = describe_topology(case.topology)
    layout = {**parse_mesh(case.mesh), "rollout.tensor": case.rollout_tensor}
    config = reference_config(layout, len(devices))
    return make_plan(*find_model(case.model), case.topology, config, chip, devices)


def row(plan: Plan) -> str:
    """One row: GiB of the largest program of each kind, then what a chip computes and sends in a step."""
    measured = plan.measured.values()
    largest = [
        max(m.memory.total for name, m in plan.measured.items() if name in names)
        for names in (UPDATE, ROLLOUT)
    ]
    costs = [m.costs for m in measured if m.costs]
    complete = len(costs) == len(plan.measured)
    cells = [
        plan.model,
        plan.topology,
        " x ".join(str(size) for size in plan.mesh.values()),
        str(plan.config.rollout.tensor),
        *(f"{size / GIB:.1f}" for size in largest),
        f"{plan.chip.usable_gib:.1f}",
        f"{sum(c.flops for c in costs) / 1e15:.2f} P" if complete else "",
        f"{sum(c.cycles for c in costs) / plan.chip.clock_ghz / 1e9:.0f} s" if complete else "",
        f"{sum(c.sent_bytes for c in costs) / GIB:,.0f}" if complete else "",
        "**does not fit**" if plan.misfit() else "fits",
    ]
    return "| " + " | ".join(cells) + " |"


if __name__ == "__main__":
    experiment_flags.run(main)
