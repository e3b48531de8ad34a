"""TPU slices that programs are compiled for, without one: their chips, their names, their devices."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass

import jax
from jax.experimental import topologies

from riskpo_jax.errors import UserError
from riskpo_jax.sharding import MESH_AXES


@dataclass(frozen=True)
class Chip:
    """One chip. hbm_gib: as advertised. usable_gib: what libtpu's compiler has available for a program.

    clock_ghz: of the cycles that the compiler estimates, peak_tflops / FLOPs a cycle. peak_tflops: bfloat16.
    ici_gb_s: GB/s that a chip can send to its neighbours, over all links. slices: the shapes on offer.
    configuration: libtpu's, under which a device is a whole chip.
    """

    hbm_gib: int
    usable_gib: float
    clock_ghz: float
    peak_tflops: float
    ici_gb_s: float
    slices: tuple[str, ...]
    configuration: str = "default"


_FLAT = ("2x2", "2x4", "4x4", "4x8", "8x8", "8x16", "16x16")
_CUBIC = (
    "2x2x1", "2x2x2", "2x2x4", "2x4x4", "4x4x4", "4x4x8", "4x8x8", "8x8x8", "8x8x12", "8x8x16", "8x16x16",
)  # fmt: skip
# https://cloud.google.com/tpu/docs/v4, v5e, v5p and v6e: memory, peak, interconnect (half of what is called
# bidirectional there) and shapes. usable_gib is from libtpu 0.0.42's own message about a program too large.
CHIPS = {
    "v4": Chip(32, 30.75, 1.05, 275, 300, _CUBIC, configuration="megacore"),
    "v5e": Chip(16, 15.75, 1.5, 197, 200, _FLAT),
    "v5p": Chip(95, 95.74, 1.75, 459, 600, (*_CUBIC, "16x16x16", "16x16x24")),
    "v6e": Chip(32, 31.25, 1.75, 918, 400, _FLAT),
}


def describe_topology(name: str) -> tuple[Chip, Sequence[jax.Device]]:
    """The chip and the abstract devices of a slice such as v5e:16x16.

    Raises:
      UserError: there is no such slice, or libtpu is not installed.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS:
        raise UserError(
            f"--topology={name}: there is no chip {kind!r}; give one of {', '.join(CHIPS)} and a shape, such "
            "as v5e:16x16"
        )
    chip = CHIPS[kind]
    if shape not in chip.slices:
        raise UserError(
            f"--topology={name}: {kind} has no slice {shape!r}; there are "
            + ", ".join(f"{kind}:{shape}" for shape in chip.slices)
        )
    if importlib.util.find_spec("libtpu") is None:
        raise UserError(
            "the TPU compiler is not installed: pip install -e '.[tpu]' in an environment of its own"
        )
    topology = topologies.get_topology_desc(
        platform="tpu", topology_name=name, chip_config_name=chip.configuration
    )
    return chip, topology.devices


def parse_mesh(text: str) -> dict[str, int]:
    """`data=1,fsdp=32,tensor=8` as the settings mesh.data, mesh.fsdp and mesh.tensor.

    Raises:
      UserError: an axis that is not one of these, named twice or without a whole number.
    """
    sizes = {}
    for part in text.split(","):
        axis, _, size = part.strip().partition("=")
        if axis not in MESH_AXES or f"mesh.{axis}" in sizes or not size.lstrip("-").isdigit():
            raise UserError(
                f"--mesh={text}: {part.strip()!r} is not one of {', '.join(MESH_AXES)} with its number of "
                "chips, each named once, such as data=1,fsdp=32,tensor=8"
            )
        sizes[f"mesh.{axis}"] = int(size)
    return sizes
