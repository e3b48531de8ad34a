"""The safetensors files of a Hugging Face directory: headers first, then tensors slice by slice.

A file is the length of its header in 8 bytes (little-endian), the header as JSON, then the data; the
header gives every tensor a dtype, a shape and its offsets in the data, which leave no gaps. Read and
written here, because the safetensors package maps a whole file to read a tensor, and wants all tensors of
a file in memory to write it.
"""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from riskpo_jax.errors import UserError
from riskpo_jax.models.config_json import JsonObject

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
DTYPES = {
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(jnp.bfloat16),
}

Shapes = Mapping[str, tuple[int, ...]]  # of every tensor, by its name
_WINDOW = 64 * 2**20  # bytes of a file that are mapped at a time


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, not read yet. dtype: as the header names it, which may be none of DTYPES."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int

    def read(self, index: tuple[slice, ...] = (slice(None),)) -> np.ndarray:
        """A copy of `tensor[index]`; only the pages that hold it are read.

        The file is mapped a window at a time, so that its pages do not pile up in the process.
        """
        rows, *columns = (*index, *(slice(None),) * (len(self.shape) - len(index)))
        start, stop, _ = rows.indices(self.shape[0])
        widths = (len(range(*c.indices(n))) for c, n in zip(columns, self.shape[1:], strict=True))
        out = np.empty((stop - start, *widths), DTYPES[self.dtype])
        row_bytes = out.itemsize * math.prod(self.shape[1:])
        step = max(_WINDOW // row_bytes, 1)
        for part in np.split(out, range(step, len(out), step)):
            shape, offset = (len(part), *self.shape[1:]), self.offset + start * row_bytes
            part[...] = np.memmap(self.file, out.dtype, "r", offset, shape)[:, *columns]
            start += len(part)
        return out


def weights_file(directory: Path) -> Path:
    """The single file, or else the index of the shards. UserError when there is neither."""
    if not directory.is_dir():
        raise UserError(f"model directory {directory} does not exist")
    for name in (WEIGHTS, INDEX):
        if (directory / name).exists():
            return directory / name
    pickles = sorted(directory.glob("*.bin"))
    if pickles:
        raise UserError(
            f"{pickles[0]} is a pickle, which is not read; in transformers, "
            "save_pretrained(..., safe_serialization=True) writes safetensors"
        )
    raise UserError(f"{directory} has no {WEIGHTS} and no {INDEX}; copy or save the model again")


def open_tensors(weights: Path) -> dict[str, StoredTensor]:
    """Every tensor of a file, or of the shards that an index lists; reads headers only.

    Raises UserError naming a file that is cut short or absent, or a shard that holds other tensors than
    the index lists for it: which of two to take would be a guess.
    """
    if weights.name != INDEX:  # one file: the model, or adapters
        return _read_header(weights)
    tensors = {}
    for shard, listed in _shards(weights).items():
        if not shard.exists():
            raise UserError(f"{shard} does not exist but {weights} lists it; copy the shard again")
        found = _read_header(shard)
        complaint = f"{shard} does not hold what {weights} lists for it: copy both again"
        _refuse(complaint, _differences(found, listed))
        tensors |= found
    return tensors


def check_tensors(found: Mapping[str, StoredTensor], expected: Shapes, complaint: str) -> None:
    """Raises UserError, `complaint` and then every tensor that is not as expected."""
    both = [(name, found[name]) for name in sorted(expected.keys() & found.keys())]
    unread = "of a type that is not read (save as float32, float16 or bfloat16)"
    problems = _differences(found, expected.keys()) | {
        "wrong shape": [
            f"{name} {tensor.shape}, not {expected[name]}"
            for name, tensor in both
            if tensor.shape != expected[name]
        ],
        unread: [f"{name} {tensor.dtype}" for name, tensor in both if tensor.dtype not in DTYPES],
    }
    _refuse(complaint, problems)


def write_tensors(
    directory: Path, shapes: Shapes, dtype, tensors: Iterable[np.ndarray], max_shard_bytes: int
) -> None:
    """Writes `tensors`, in the order of `shapes`, as one file or as shards with their index.

    dtype: one of the values of DTYPES, the tensors' own. No shard is larger than `max_shard_bytes`
    (data, without the header) unless a single tensor is. Holds one tensor at a time.
    """
    itemsize = np.dtype(dtype).itemsize
    sizes = {name: itemsize * math.prod(shape) for name, shape in shapes.items()}
    shards, tensors = split_into_shards(sizes, max_shard_bytes), iter(tensors)
    files = [f"model-{i:05}-of-{len(shards):05}.safetensors" for i in range(1, len(shards) + 1)]
    files = files if len(shards) > 1 else [WEIGHTS]
    for file, names in zip(files, shards, strict=True):
        part = {name: shapes[name] for name in names}
        write_file(directory / file, part, dtype, itertools.islice(tensors, len(names)))
    if len(shards) > 1:
        weight_map = {
            name: file for file, names in zip(files, shards, strict=True) for name in names
        }
        index = {"metadata": {"total_size": sum(sizes.values())}, "weight_map": weight_map}
        (directory / INDEX).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n")


def write_file(file: Path, shapes: Shapes, dtype, tensors: Iterable[np.ndarray]) -> None:
    """Writes `tensors`, of `dtype` and in the order of `shapes`, as one file; holds one at a time."""
    header, end = {"__metadata__": {"format": "pt"}}, 0
    stored = {known: name for name, known in DTYPES.items()}[np.dtype(dtype)]
    for name, shape in shapes.items():
        start, end = end, end + np.dtype(dtype).itemsize * math.prod(shape)
        header[name] = {"dtype": stored, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8
    with open(file, "wb") as stream:
        stream.write(len(text).to_bytes(8, "little") + text)
        for tensor in tensors:
            tensor.tofile(stream)


def split_into_shards(sizes: Mapping[str, int], most: int) -> list[list[str]]:
    """The names in their order, in runs of at most `most` bytes or of a single larger tensor."""
    shards, room = [], 0
    for name, size in sizes.items():
        if not shards or size > room:
            shards.append([])
            room = most
        shards[-1].append(name)
        room -= size
    return shards


def _differences(found: Mapping[str, StoredTensor], expected: Set[str]) -> dict[str, list[str]]:
    return {
        "missing": sorted(expected - found.keys()),
        "unexpected": sorted(found.keys() - expected),
    }


def _refuse(complaint: str, problems: Mapping[str, list[str]]) -> None:
    """Raises UserError listing the problems, unless there are none of any kind."""
    listed = [f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names]
    if listed:
        raise UserError(f"{complaint}; {'; '.join(listed)}")


def _read_header(file: Path) -> dict[str, StoredTensor]:
    try:
        size = file.stat().st_size
        with open(file, "rb") as stream:
            start = 8 + int.from_bytes(stream.read(8), "little")
            if size < start:
                raise ValueError(f"{size} bytes, not even the {start} to the end of its header")
            header = json.loads(stream.read(start - 8))
        header.pop("__metadata__", None)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        if start + end != size:
            raise ValueError(f"{size} bytes, not {start + end}")
        for name, entry in header.items():
            first, last = entry["data_offsets"]
            known = DTYPES.get(entry["dtype"])
            if known and last - first != known.itemsize * math.prod(entry["shape"]):
                raise ValueError(f"{name} has {last - first} bytes for {entry['shape']}")
        return {
            name: StoredTensor(file, e["dtype"], tuple(e["shape"]), start + e["data_offsets"][0])
            for name, e in header.items()
        }
    except OSError as error:
        raise UserError(f"{file} cannot be read ({error.strerror}); copy it again") from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{file} is cut short or damaged ({error}); copy it again") from None


def _shards(index: Path) -> dict[Path, set[str]]:
    """The shards that the index lists, and the tensors it expects in each."""
    whole = JsonObject.read(index)
    whole.need("weight_map", dict)
    weight_map = whole.child("weight_map")
    shards: dict[Path, set[str]] = {}
    for tensor in weight_map.values:
        shards.setdefault(index.parent / weight_map.need(tensor, str), set()).add(tensor)
    return shards
