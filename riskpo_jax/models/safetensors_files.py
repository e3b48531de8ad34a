"""Finds and opens the safetensors files of a Hugging Face directory, and names what is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from riskpo_jax.errors import UserError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


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


def open_tensors(weights: Path) -> dict[str, Any]:
    """Maps the name of every tensor to the open file that holds it; nothing is read yet.

    weights: what `weights_file` found. Raises UserError naming a file that is cut short or absent.
    """
    if weights.name == WEIGHTS:
        file = _open(weights)
        return dict.fromkeys(file.keys(), file)
    files = {}
    for shard, listed in _shards(weights).items():
        if not shard.exists():
            raise UserError(f"{shard} does not exist but {weights} lists it; copy the shard again")
        file = _open(shard)
        absent = sorted(listed - set(file.keys()))
        if absent:
            raise UserError(
                f"{shard} lacks {', '.join(absent)}, which {weights} lists; copy the shard again"
            )
        files |= dict.fromkeys(file.keys(), file)
    return files


def _open(file: Path) -> Any:
    try:
        return safe_open(file, framework="numpy")
    except SafetensorError as error:
        raise UserError(f"{file} is cut short or damaged ({error}); copy it again") from None


def _shards(index: Path) -> dict[Path, set[str]]:
    """The shards that the index lists, and the tensors it expects in each."""
    try:
        weight_map = json.loads(index.read_text())["weight_map"].items()
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(f"{index} is not a JSON object with a weight_map; copy it again") from None
    shards: dict[Path, set[str]] = {}
    for tensor, shard in weight_map:
        shards.setdefault(index.parent / shard, set()).add(tensor)
    return shards
