"""The device mesh, and which mesh axis each logical axis is split over.

Parameters are split over `fsdp` (gathered when used) and `tensor` (computed in parts); batches over
`data` and `fsdp`. One device is a mesh of one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from riskpo_jax.errors import UserError

MESH_AXES = ("data", "fsdp", "tensor")

LOGICAL_RULES = (
    ("batch", ("data", "fsdp")),
    ("vocab", "tensor"),
    ("embed", "fsdp"),
    ("heads", "tensor"),
    ("kv_heads", "tensor"),
    ("mlp", "tensor"),
    ("head_dim", None),
    ("rank", None),
    ("layers", None),
)


def make_mesh(
    data: int = -1, fsdp: int = 1, tensor: int = 1, devices: Sequence[jax.Device] | None = None
) -> Mesh:
    """A mesh (data, fsdp, tensor) over all `devices`; data = -1 takes those that remain.

    Raises UserError when the sizes do not multiply to the number of devices.
    """
    devices = jax.devices() if devices is None else list(devices)
    if fsdp < 1 or tensor < 1 or (data < 1 and data != -1):
        raise UserError(
            f"mesh (data={data}, fsdp={fsdp}, tensor={tensor}): sizes are 1 or more, data may be -1"
        )
    if data == -1:
        data = max(len(devices) // (fsdp * tensor), 1)
    if data * fsdp * tensor != len(devices):
        raise UserError(
            f"mesh (data={data}, fsdp={fsdp}, tensor={tensor}) needs {data * fsdp * tensor} "
            f"devices, there are {len(devices)}; choose sizes whose product is {len(devices)}"
        )
    # As `jax.make_mesh`, which on a 3-D torus only takes sizes that are products of its own.
    grid = mesh_utils.create_device_mesh(
        (data, fsdp, tensor), devices, allow_split_physical_axes=True
    )
    return Mesh(grid, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Leading axis over `data` and `fsdp`, the rest whole."""
    return NamedSharding(mesh, PartitionSpec(dict(LOGICAL_RULES)["batch"]))


def replicated(mesh: Mesh) -> NamedSharding:
    """The whole array on every device."""
    return NamedSharding(mesh, PartitionSpec())


def fit(sharding: NamedSharding, shape: Sequence[int]) -> NamedSharding:
    """The same sharding, with axes of `shape` that do not divide into the mesh left whole.

    Two key-value heads over tensor = 4, say, or an odd vocabulary.
    """

    def parts(names) -> int:
        names = (names,) if isinstance(names, str) else names or ()
        return math.prod(sharding.mesh.shape[name] for name in names)

    named_sizes = zip(sharding.spec, shape, strict=False)  # a spec may name leading axes only
    spec = [names if size % parts(names) == 0 else None for names, size in named_sizes]
    return NamedSharding(sharding.mesh, PartitionSpec(*spec))
