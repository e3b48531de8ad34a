"""Hugging Face model directories in and out, without PyTorch, whatever the model's size.

Tensors go between file and devices one at a time and are reshaped, transposed and cast on the devices,
where every device holds its part only.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import NamedSharding

from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.hf_names import Leaf, blocks, leaves
from riskpo_jax.models.safetensors_files import (
    StoredTensor,
    check_tensors,
    open_tensors,
    weights_file,
    write_tensors,
)
from riskpo_jax.sharding import fetch, make_mesh, replicated

Block = tuple[Leaf, ...]
_EMBEDDING, _HEAD = "model.embed_tokens.weight", "lm_head.weight"
_ROWS = 1024  # of the vocabulary, that are compared at a time


def open_checked(directory: str | Path, config: DecoderConfig) -> Mapping[str, StoredTensor]:
    """The tensors of a safetensors directory by name, not read yet.

    Raises UserError for what `load_params` refuses, except a tied head of its own.
    """
    weights = weights_file(Path(directory))
    tensors = {
        name: tensor
        for name, tensor in open_tensors(weights).items()
        if not name.endswith("rotary_emb.inv_freq")  # some files carry what the model computes
    }
    expected = {name: leaf.hf_shape for leaf in leaves(config) for name in leaf.hf_names}
    if config.tie_embeddings and _HEAD in tensors:  # a copy; `load_params` looks whether it is
        expected[_HEAD] = expected[_EMBEDDING]
    check_tensors(tensors, expected, f"{weights} does not hold the model of its config.json")
    return tensors


def load_params(
    directory: str | Path, config: DecoderConfig, dtype=jnp.float32, shardings: Any = None
) -> Any:
    """Parameters of `Decoder(config)` from a safetensors directory, single file or sharded.

    The host holds one tensor at a time, and a device its part of the result and of one layer's
    tensors; where the host's CPU is the device, the host so holds a layer.

    dtype: of the result; the file's may be float32, float16 or bfloat16. shardings: a pytree of
    NamedSharding like the parameters, or None for the default device. Raises UserError naming every
    missing, unexpected or mis-shaped tensor or one of another dtype, any file that is absent or cut
    short, and a head that is not the embedding though config.json ties them.
    """
    tensors = open_checked(directory, config)
    if config.tie_embeddings and _HEAD in tensors:
        _check_tied(tensors[_HEAD], tensors[_EMBEDDING])
    device = replicated(make_mesh(devices=jax.local_devices()[:1]))
    alone = {leaf.path: device for leaf in leaves(config)}
    placements = alone if shardings is None else flatten_dict(shardings)
    params = {}
    for block in blocks(config):
        targets = tuple(placements[leaf.path] for leaf in block)
        arrays = _load_block(block, tensors, jnp.dtype(dtype), targets)
        params |= {leaf.path: array for leaf, array in zip(block, arrays, strict=True)}
    return unflatten_dict(params)


def save_pretrained(
    directory: str | Path,
    params: Any,
    config: DecoderConfig,
    dtype=None,
    generation_config: Mapping[str, Any] | None = None,
    max_shard_bytes: int = 5_000_000_000,
) -> None:
    """Writes what `transformers.AutoModelForCausalLM.from_pretrained` reads into a folder.

    The folder is made, or holds other files (a tokenizer) already; it is not replaced as a whole, so
    let it be one that `files.replacing_folder` yields where a model may be there or a kill may come.
    The host holds one tensor at a time.

    dtype: of the weights in the file, by default that of the embedding. max_shard_bytes: above it the
    weights are shards with an index, of at most that size or of a single tensor. Raises UserError when
    the folder already holds weights, and for a tensor whose values are too large for float16.
    """
    directory, flat = Path(directory), flatten_dict(params)
    held = sorted(directory.glob("*.safetensors"))
    if held:
        raise UserError(f"{held[0]} is there already; save into a folder without weights")
    if set(flat) != {leaf.path for leaf in leaves(config)}:
        raise ValueError("the parameters are not those of the config; merge adapters first")
    dtype = jnp.dtype(dtype or params["embedding"].dtype)
    directory.mkdir(parents=True, exist_ok=True)
    types = {"dtype": dtype.name, "torch_dtype": dtype.name}  # transformers 5, and what is older
    _write_json(directory / "config.json", config.to_hf() | types)
    if generation_config is not None:
        _write_json(directory / "generation_config.json", generation_config)
    shapes = {
        leaf.hf_names[i]: leaf.hf_shape
        for block in blocks(config)
        for i in _layers(block)
        for leaf in block
    }
    write_tensors(directory, shapes, dtype, _hf_tensors(flat, config, dtype), max_shard_bytes)


def hand_over(params: Any, config: DecoderConfig, dtype=None) -> None:
    """What the other processes do while one saves: each holds a part of every tensor."""
    dtype = jnp.dtype(dtype or params["embedding"].dtype)
    for _ in _hf_tensors(flatten_dict(params), config, dtype):
        pass


def _check_tied(head: StoredTensor, embedding: StoredTensor) -> None:
    """Raises UserError unless a stored head is the embedding's copy; transformers would not tie it."""
    for start in range(0, head.shape[0], _ROWS):
        rows = (slice(start, start + _ROWS),)
        if not np.array_equal(*(x.read(rows).astype(np.float32) for x in (head, embedding))):
            raise UserError(
                f"{head.file}: {_HEAD} is not {_EMBEDDING} though the model is tied: set "
                "tie_word_embeddings to false in config.json, or remove the tensor"
            )


def _layers(block: Block) -> range:
    """The layers of stacked leaves; the other leaves are all in one."""
    return range(len(block[0].hf_names))


def _load_block(
    block: Block,
    tensors: Mapping[str, StoredTensor],
    dtype: np.dtype,
    shardings: tuple[NamedSharding, ...],
) -> list[jax.Array]:
    """The leaves of a block, filled layer by layer."""
    empty, fill = _empty_and_fill(block, dtype, shardings)

    def read(i: int) -> list[jax.Array]:
        pairs = zip(block, shardings, strict=True)
        return [_place(tensors[leaf.hf_names[i]], leaf.hf_sharding(s)) for leaf, s in pairs]

    arrays = empty()
    for i in _layers(block):  # wait for each: a device has little room beside the result
        arrays = jax.block_until_ready(fill(arrays, read(i), i))
    return arrays


def _place(tensor: StoredTensor, sharding: NamedSharding) -> jax.Array:
    """The tensor as it is stored, on the devices; a slice that many devices hold is read once."""
    slices: dict[tuple, np.ndarray] = {}

    def read(index: tuple[slice, ...]) -> np.ndarray:
        key = tuple((part.start, part.stop) for part in index)
        if key not in slices:
            slices[key] = tensor.read(index)
        return slices[key]

    array = jax.make_array_from_callback(tensor.shape, sharding, read)
    return array.block_until_ready()  # only then are the slices free


@functools.cache
def _empty_and_fill(
    block: Block, dtype: np.dtype, shardings: tuple[NamedSharding, ...]
) -> tuple[Callable, Callable]:
    """Two compiled functions: () -> zeros for stacked leaves, None for others; and
    (those, tensors of layer i, i) -> the leaves with that layer in its row, in the same memory."""

    def empty() -> list[jax.Array | None]:
        return [jnp.zeros(leaf.shape, dtype) if leaf.stacked else None for leaf in block]

    def fill(arrays: list[jax.Array | None], tensors: list[jax.Array], i: int) -> list[jax.Array]:
        rows = [leaf.from_hf(x).astype(dtype) for leaf, x in zip(block, tensors, strict=True)]
        return [
            row if array is None else jax.lax.dynamic_update_index_in_dim(array, row, i, 0)
            for array, row in zip(arrays, rows, strict=True)
        ]

    out = list(shardings)
    stacked = [s if leaf.stacked else None for leaf, s in zip(block, shardings, strict=True)]
    return jax.jit(empty, out_shardings=stacked), jax.jit(fill, out_shardings=out, donate_argnums=0)


def _hf_tensors(
    flat: Mapping[tuple, jax.Array], config: DecoderConfig, dtype: np.dtype
) -> Iterator[np.ndarray]:
    """The tensors of the file, block by block and layer by layer, on every process's host."""
    for block in blocks(config):
        arrays = [jnp.asarray(flat[leaf.path]) for leaf in block]
        for i in _layers(block):
            layer = _layer_to_hf(block, dtype, arrays, i)
            for leaf in block:
                tensor = fetch(layer.pop(0))
                if dtype == np.float16 and np.isinf(tensor).any():
                    raise UserError(
                        f"{leaf.hf_names[i]} has values beyond float16's largest, "
                        f"{np.finfo(dtype).max:.0f}; use bfloat16"
                    )
                yield tensor
                del tensor  # before the next one comes to the host


@functools.partial(jax.jit, static_argnums=(0, 1))
def _layer_to_hf(block: Block, dtype: np.dtype, arrays: list[jax.Array], i: int) -> list[jax.Array]:
    rows = [
        jax.lax.dynamic_index_in_dim(array, i, 0, keepdims=False) if leaf.stacked else array
        for leaf, array in zip(block, arrays, strict=True)
    ]
    return [leaf.to_hf(row.astype(dtype)) for leaf, row in zip(block, rows, strict=True)]


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")
