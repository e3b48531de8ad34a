"""Tells, on any machine, whether a run fits on a TPU slice: compiles its programs for it ahead of time.

    python -m launch.plan --model=qwen2.5-7b --topology=v5e:16x16 --mesh=data=1,fsdp=64,tensor=4
    python -m launch.plan --flagfile=experiments/flagfiles/easy_math_qwen2.5_1.5b.flags --topology=v5e:2x4

With a flagfile the run is planned as it is; what the command line gives besides overrides it. Without one,
what is not given is `launch.workload.REFERENCE`'s. Exits with status 1 where the plan does not fit.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from absl import flags
from rich.console import Console
from rich.table import Table

import launch.without_hardware  # noqa: F401  before JAX is imported
from experiments import flags as experiment_flags
from launch.costs import KINDS
from launch.measure import GIB, Measured, measure
from launch.programs import programs
from launch.topology import CHIPS, Chip, describe_topology, parse_mesh
from launch.verdict import misfit
from launch.workload import find_model, reference_config, with_mesh
from riskpo_jax.config import Config
from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.sharding import MESH_AXES
from riskpo_jax.training.setup import load_mesh, make_model

MODEL = flags.DEFINE_string(
    "model",
    None,
    "Published model, or directory with config.json; default: that of --model.path.",
    allow_override=True,  # experiments.evaluate has a flag of this name
)
TOPOLOGY = flags.DEFINE_string(
    "topology", None, f"TPU slice, such as v5e:16x16; chips: {', '.join(CHIPS)}."
)
MESH = flags.DEFINE_string(
    "mesh", None, "data=1,fsdp=32,tensor=8; default: --mesh.data, --mesh.fsdp, --mesh.tensor."
)


@dataclass(frozen=True)
class Plan:
    """A run on a slice, and what the compiler says of its programs. mesh: sizes of data, fsdp, tensor."""

    model: str
    topology: str
    config: Config
    mesh: Mapping[str, int]
    chip: Chip
    measured: Mapping[str, Measured]

    @property
    def chips(self) -> int:
        return self.mesh["data"] * self.mesh["fsdp"] * self.mesh["tensor"]

    @property
    def shards(self) -> int:
        return self.mesh["data"] * self.mesh["fsdp"]

    @property
    def capacity(self) -> float:
        return self.chip.usable_gib * GIB

    def misfit(self) -> str | None:
        """Why the run does not fit and what to change, or None."""
        return misfit(self.config, self.measured, self.capacity, self.chips, self.shards)


def main() -> None:
    console = Console()
    plan = plan_from_flags()
    for line in header(plan):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    console.print(table(plan))
    if reason := plan.misfit():
        raise UserError(reason)
    most = max(measured.memory.total for measured in plan.measured.values())
    console.print(
        f"fits: {most / GIB:.2f} of {plan.chip.usable_gib} GiB a chip at most", highlight=False
    )


def plan_from_flags() -> Plan:
    """Raises UserError for a model, a slice, a mesh or settings that do not exist or do not go together."""
    if not TOPOLOGY.value:
        raise UserError(f"--topology is required, such as v5e:16x16; chips: {', '.join(CHIPS)}")
    chip, devices = describe_topology(TOPOLOGY.value)
    mesh = parse_mesh(MESH.value) if MESH.value else {}
    if any(argument.lstrip("-").startswith("flagfile") for argument in sys.argv[1:]):
        config = with_mesh(experiment_flags.config_from_flags(), mesh)
    else:
        config = reference_config(experiment_flags.given_settings() | mesh, len(devices))
    name, shape = find_model(MODEL.value or config.model.path)
    return make_plan(name, shape, TOPOLOGY.value, config, chip, devices)


def make_plan(
    name: str, shape: DecoderConfig, topology: str, config: Config, chip: Chip, devices
) -> Plan:
    """Compiles the programs of `config` for a model of that shape on `devices`."""
    if config.train.stage != "rl":
        raise UserError(
            f"--train.stage={config.train.stage} is not planned: give a run of --train.stage=rl"
        )
    mesh = load_mesh(config, shape, devices)
    measured = {
        title: measure(program, chip.usable_gib * GIB)
        for title, program in programs(config, make_model(config, shape), mesh).items()
    }
    return Plan(name, topology, config, dict(mesh.shape), chip, measured)


def header(plan: Plan) -> list[str]:
    """What is planned, in words."""
    c = plan.config
    mesh = ", ".join(f"{axis}={plan.mesh[axis]}" for axis in MESH_AXES)
    slots = c.rollout.slots or c.sequences_per_step
    chips = c.rollout.tensor
    layout = (
        f"{chips} chip{'s' * (chips > 1)} a copy of the model"
        if chips
        else "laid out as for training"
    )
    return [
        f"{plan.model} on {plan.topology}, {plan.chips} chips: mesh {mesh}",
        f"a step: {c.data.questions_per_step} questions x {c.rollout.group_size} responses, up to "
        f"{c.data.max_prompt_length} + {c.rollout.max_response_length} tokens; "
        f"{c.train.tokens_per_micro_batch} tokens a data shard in a micro-batch",
        f"sampling: {slots} responses at the same time, {layout}, KV cache {c.rollout.kv_cache_dtype}",
        f"parameters {c.model.param_dtype}, moments {c.train.moment_dtype}, products "
        f"{c.model.compute_dtype}, remat {c.model.remat}",
    ]


def table(plan: Plan) -> Table:
    """Per chip: the memory of each program, and what all of its calls in a step compute and send."""
    titles, measured = zip(*plan.measured.items(), strict=True)
    result = Table("a chip", *titles)
    result.columns[0].no_wrap = True
    for column in result.columns[1:]:
        column.justify = "right"

    def row(label: str, values: list[str]) -> None:
        result.add_row(label, *values)

    row("memory in GiB:", [""] * len(titles))
    for part in ("arguments", "outputs", "temporaries", "beside", "total"):
        row(part, [gib(getattr(m.memory, part)) for m in measured])
    row("capacity", [f"{plan.chip.usable_gib:.2f}"] * len(titles))
    result.add_section()
    row("a step: calls", [f"{m.calls:,}" for m in measured])
    costs = [m.costs for m in measured]
    row("TFLOPs", [f"{c.flops / 1e12:.1f}" if c else "" for c in costs])
    row(
        "at the chip's peak", [seconds(c and c.flops / plan.chip.peak_tflops / 1e12) for c in costs]
    )
    row("compiler's estimate", [seconds(c and c.cycles / plan.chip.clock_ghz / 1e9) for c in costs])
    result.add_section()
    row("sent in GiB:", [""] * len(titles))
    for kind in KINDS:
        found = [c.collectives.get(kind) if c else None for c in costs]
        row(kind, [f"{f.count:,} x, {gib(f.sent_bytes)}" if f else "" for f in found])
    row(
        "at all links",
        [seconds(c and c.sent_bytes / plan.chip.ici_gb_s / 1e9) for c in costs],
    )
    return result


def gib(size: int) -> str:
    return f"{size / GIB:.2f}"


def seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.2f} s"


if __name__ == "__main__":
    experiment_flags.run(main)
