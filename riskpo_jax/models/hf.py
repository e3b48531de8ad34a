"""Hugging Face model directories in and out, without PyTorch."""

from __future__ import annotations

import json
import math
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from riskpo_jax.errors import UserError
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.safetensors_files import WEIGHTS, open_tensors, weights_file

# Our leaf, its Hugging Face name, and the axes there -> here. A comma separates the axes of the
# Hugging Face tensor; letters side by side are flattened into one axis there.
# v vocabulary, m model width, h query heads, k key-value heads, d head features, f feed-forward.
TABLE = (
    ("embedding", "model.embed_tokens.weight", "v,m->vm"),
    ("head", "lm_head.weight", "v,m->vm"),
    ("final_norm/scale", "model.norm.weight", "m->m"),
    ("layers/attention_norm/scale", "model.layers.{}.input_layernorm.weight", "m->m"),
    ("layers/attention/q", "model.layers.{}.self_attn.q_proj.weight", "hd,m->mhd"),
    ("layers/attention/k", "model.layers.{}.self_attn.k_proj.weight", "kd,m->mkd"),
    ("layers/attention/v", "model.layers.{}.self_attn.v_proj.weight", "kd,m->mkd"),
    ("layers/attention/q_bias", "model.layers.{}.self_attn.q_proj.bias", "hd->hd"),
    ("layers/attention/k_bias", "model.layers.{}.self_attn.k_proj.bias", "kd->kd"),
    ("layers/attention/v_bias", "model.layers.{}.self_attn.v_proj.bias", "kd->kd"),
    ("layers/attention/o", "model.layers.{}.self_attn.o_proj.weight", "m,hd->hdm"),
    ("layers/mlp_norm/scale", "model.layers.{}.post_attention_layernorm.weight", "m->m"),
    ("layers/mlp/gate", "model.layers.{}.mlp.gate_proj.weight", "f,m->mf"),
    ("layers/mlp/up", "model.layers.{}.mlp.up_proj.weight", "f,m->mf"),
    ("layers/mlp/down", "model.layers.{}.mlp.down_proj.weight", "m,f->fm"),
)


@dataclass(frozen=True)
class Leaf:
    """One parameter of ours, and the tensors of the Hugging Face file that make it up.

    `split` is `hf_shape` with its flattened axes apart; `axes` permutes it into our order. A
    stacked leaf has one tensor a layer on its leading axis.
    """

    path: tuple[str, ...]
    hf_names: tuple[str, ...]
    hf_shape: tuple[int, ...]
    split: tuple[int, ...]
    axes: tuple[int, ...]
    stacked: bool

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(self.split[axis] for axis in self.axes)
        return (len(self.hf_names), *shape) if self.stacked else shape

    def from_hf(self, tensor: np.ndarray) -> np.ndarray:
        return tensor.reshape(self.split).transpose(self.axes)

    def to_hf(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.transpose(np.argsort(self.axes))).reshape(self.hf_shape)


def leaves(config: DecoderConfig) -> list[Leaf]:
    """The rows of TABLE that a model of this config has, with their sizes."""
    c = config
    sizes = {
        "v": c.vocab_size, "m": c.hidden_size, "f": c.intermediate_size,
        "h": c.num_heads, "k": c.num_kv_heads, "d": c.head_dim,
    }  # fmt: skip

    def leaf(path: str, name: str, rule: str) -> Leaf:
        there, here = rule.split("->")
        letters, stacked = there.replace(",", ""), "{}" in name
        return Leaf(
            path=tuple(path.split("/")),
            hf_names=tuple(name.format(i) for i in range(c.num_layers)) if stacked else (name,),
            hf_shape=tuple(math.prod(sizes[x] for x in axis) for axis in there.split(",")),
            split=tuple(sizes[x] for x in letters),
            axes=tuple(letters.index(x) for x in here),
            stacked=stacked,
        )

    def present(path: str) -> bool:
        return not (
            path == "head" and c.tie_embeddings or path.endswith("_bias") and not c.qkv_bias
        )

    return [leaf(*row) for row in TABLE if present(row[0])]


def open_checked(directory: str | Path, config: DecoderConfig) -> Mapping[str, Any]:
    """The open files of a safetensors directory by tensor name; reads headers only.

    Raises UserError for what `load_params` refuses.
    """
    weights = weights_file(Path(directory))
    files = open_tensors(weights)
    _check_tensors(files, config, weights)
    return files


def load_params(
    directory: str | Path, config: DecoderConfig, dtype=jnp.float32, shardings: Any = None
) -> Any:
    """Parameters of `Decoder(config)` from a safetensors directory, single file or sharded.

    dtype: of the result; the file's may be float32, float16 or bfloat16. shardings: a pytree of
    NamedSharding like the parameters, or None for the default device. Raises UserError naming every
    missing, unexpected or mis-shaped tensor, and any file that is absent or cut short.
    """
    files = open_checked(directory, config)
    placements = {} if shardings is None else flatten_dict(shardings)
    params = {}
    for leaf in leaves(config):
        host = np.empty(leaf.shape, dtype)
        rows = host if leaf.stacked else host[None]
        for row, name in zip(rows, leaf.hf_names, strict=True):
            row[...] = leaf.from_hf(files[name].get_tensor(name)).astype(dtype)
        params[leaf.path] = _place(host, placements.get(leaf.path))
    return unflatten_dict(params)


def save_pretrained(
    directory: str | Path,
    params: Any,
    config: DecoderConfig,
    dtype=None,
    generation_config: Mapping[str, Any] | None = None,
) -> None:
    """Writes a directory that `transformers.AutoModelForCausalLM.from_pretrained` reads.

    dtype: of the weights in the file, by default that of `params`. The files are written next to
    `directory` and moved into it when they are complete; other files there (a tokenizer) stay.
    """
    tensors = _hf_tensors(params, config, dtype)
    hf_config = config.to_hf() | {"dtype": next(iter(tensors.values())).dtype.name}
    directory = Path(directory)
    part = directory.with_name(f".{directory.name}.{os.getpid()}.part")
    shutil.rmtree(part, ignore_errors=True)  # left by a killed process of the same id
    part.mkdir(parents=True)
    try:
        _write_json(part / "config.json", hf_config)
        if generation_config is not None:
            _write_json(part / "generation_config.json", generation_config)
        save_file(tensors, part / WEIGHTS, metadata={"format": "pt"})
        shutil.copymode(part / "config.json", part / WEIGHTS)  # save_file makes it private
        _move_in(part, directory)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def _check_tensors(files: Mapping[str, Any], config: DecoderConfig, weights: Path) -> None:
    expected = {name: leaf.hf_shape for leaf in leaves(config) for name in leaf.hf_names}
    found = {name: tuple(file.get_slice(name).get_shape()) for name, file in files.items()}
    both = sorted(expected.keys() & found.keys())
    problems = {
        "missing": sorted(expected.keys() - found.keys()),
        "unexpected": sorted(
            n for n in found.keys() - expected.keys() if not _known_copy(n, config)
        ),
        "wrong shape": [
            f"{n} {found[n]}, not {expected[n]}" for n in both if found[n] != expected[n]
        ],
    }
    if any(problems.values()):
        listed = "; ".join(
            f"{kind}: {', '.join(names)}" for kind, names in problems.items() if names
        )
        raise UserError(f"{weights} does not hold the model of its config.json; {listed}")


def _known_copy(name: str, config: DecoderConfig) -> bool:
    """Tensors that some files carry though the model computes them or has them elsewhere."""
    tied_head = config.tie_embeddings and name == "lm_head.weight"
    return tied_head or name.endswith("rotary_emb.inv_freq")


def _place(host: np.ndarray, sharding: jax.sharding.Sharding | None) -> jax.Array:
    if sharding is None:
        return jnp.asarray(host)
    return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])


def _hf_tensors(params: Any, config: DecoderConfig, dtype) -> dict[str, np.ndarray]:
    flat, tensors = flatten_dict(params), {}
    for leaf in leaves(config):
        host = np.asarray(flat[leaf.path])
        host = host if dtype is None else host.astype(dtype)
        rows = host if leaf.stacked else host[None]
        tensors |= {name: leaf.to_hf(row) for name, row in zip(leaf.hf_names, rows, strict=True)}
    return tensors


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json.dumps(content, indent=2) + "\n")


def _move_in(part: Path, directory: Path) -> None:
    """One rename for a new directory; into an old one file by file, the weights last."""
    if not directory.exists():
        os.rename(part, directory)
        return
    for file in sorted(part.iterdir(), key=lambda file: file.name == WEIGHTS):
        os.replace(file, directory / file.name)
