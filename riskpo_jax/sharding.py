"""The device mesh, and which mesh axis each logical axis is split over.

Parameters are split over `fsdp` (gathered when used) and `tensor` (computed in parts); batches over
`data` and `fsdp`. One device is a mesh of one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from riskpo_jax.errors import UserError

T = TypeVar("T")

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
    ("norm", None),
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


def rollout_mesh(mesh: Mesh, tensor: int) -> Mesh:
    """The same devices, each `tensor` of them with a whole copy of the parameters; 0: the mesh as it is.

    Raises UserError when `tensor` does not divide the devices.
    """
    if tensor == 0:
        return mesh
    if mesh.size % tensor:
        raise UserError(
            f"--rollout.tensor={tensor} does not divide the {mesh.size} devices of the mesh: give a divisor, "
            "or 0 for the layout of training"
        )
    devices = mesh.devices.reshape(-1, 1, tensor)
    return Mesh(devices, MESH_AXES, axis_types=(AxisType.Auto,) * 3)


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


def constrain(x: jax.Array, mesh: Mesh | None, *names: str | None) -> jax.Array:
    """x with each axis divided as LOGICAL_RULES say of its name, where it divides; as it is without a mesh.

    Left alone, XLA divides activations like the weights they meet and has every device work on the whole
    batch.
    """
    if mesh is None:
        return x
    rules = dict(LOGICAL_RULES)
    spec = PartitionSpec(*(rules[name] if name else None for name in names))
    return jax.lax.with_sharding_constraint(x, fit(NamedSharding(mesh, spec), x.shape))


def data_shards(mesh: Mesh) -> int:
    """The parts that a batch is divided into."""
    return mesh.shape["data"] * mesh.shape["fsdp"]


def take_rows(x: jax.Array, rows_N: jax.Array, shards: int) -> jax.Array:
    """x[rows] of each shard's own part: both are divided into `shards`, and `rows_N` counts within one.

    So that no row leaves its device.
    """

    def parts(array: jax.Array) -> jax.Array:
        return array.reshape(shards, -1, *array.shape[1:])

    taken = jax.vmap(lambda part, rows: part[rows])(parts(x), parts(rows_N))
    return taken.reshape(-1, *x.shape[1:])


def place(mesh: Mesh, rows: T) -> T:
    """A pytree of host arrays on the mesh, their leading axis divided over the data axes."""
    return put(rows, batch_sharding(mesh))


def put(tree: T, sharding: Any) -> T:
    """A pytree of host arrays, of which every process has the whole, on the devices.

    sharding: one for all leaves, or a pytree of them; None, of a single process, is the default device.
    """
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    # Not device_put: it would ask all processes, each time, whether their values are equal.
    return jax.tree.map(
        lambda x, sharding: jax.make_array_from_callback(x.shape, sharding, x.__getitem__),
        tree,
        jax.tree.broadcast(sharding, tree),
    )


def fetch(tree: T) -> T:
    """The whole arrays on the host, also of those whose devices are spread over several processes."""

    def whole(x: Any) -> Any:
        if not isinstance(x, jax.Array) or x.is_fully_addressable or x.is_fully_replicated:
            return x
        return _gather(x.sharding.mesh)(x)

    return jax.device_get(jax.tree.map(whole, tree))


@functools.cache
def _gather(mesh: Mesh) -> Callable[[jax.Array], jax.Array]:
    return jax.jit(lambda x: x, out_shardings=replicated(mesh))
