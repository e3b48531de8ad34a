"""LoRA adapters in PEFT's file format: `adapter_config.json` and `adapter_model.safetensors`.

A file that PEFT wrote means here what it means there, or is refused. Two settings are translated: rsLoRA
(2312.03732), which scales by alpha / sqrt(rank), is read as the alpha that gives this scale, and dropout
is left out, because adapters are applied without it.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flax.linen as nn
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from riskpo_jax.errors import UserError
from riskpo_jax.files import replacing_folder
from riskpo_jax.models import lora as lora_lib
from riskpo_jax.models.config import DecoderConfig
from riskpo_jax.models.config_json import JsonObject
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.models.hf_names import TABLE
from riskpo_jax.models.lora import A, B, Lora
from riskpo_jax.models.partitioning import abstract_params
from riskpo_jax.models.safetensors_files import (
    StoredTensor,
    check_tensors,
    open_tensors,
    write_file,
)
from riskpo_jax.sharding import put

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
MATRICES = {f"{name}_proj": name for name in lora_lib.MATRICES}  # PEFT's name -> ours

# Settings that change nothing here. Which modules have adapters is seen from the tensors.
_HARMLESS = {
    "auto_mapping", "base_model_name_or_path", "corda_config", "ensure_weight_tying", "eva_config",
    "exclude_modules", "inference_mode", "layers_pattern", "loftq_config", "lora_dropout",
    "lora_ga_config", "megatron_core", "peft_version", "qalora_group_size", "revision",
    "target_modules",
}  # fmt: skip
_ALLOWED = {
    "peft_type": ("LORA",),
    "task_type": ("CAUSAL_LM", None),
    "bias": ("none",),
    # The others (pissa, olora, ...) also change the base model when PEFT loads them.
    "init_lora_weights": (True, False, "gaussian", "eva", "orthogonal"),
}
_READ = {"r", "lora_alpha", "use_rslora"}
_SIDES = {A: "lora_A", B: "lora_B"}


def read_lora(directory: str | Path) -> Lora:
    """Rank, alpha and matrices of the adapters in a directory; reads headers only.

    Raises UserError for a directory that is not PEFT's, and for every setting that is not computed.
    """
    settings = _read_settings(Path(directory) / CONFIG)
    settings.need("peft_type", str)
    rank, alpha = settings.size("r"), settings.need("lora_alpha", float)
    if settings.get("use_rslora", bool):
        alpha *= math.sqrt(rank)
    names = _open(Path(directory))
    adapted = {matrix for matrix in MATRICES if any(f".{matrix}." in name for name in names)}
    return Lora(rank, alpha, tuple(ours for theirs, ours in MATRICES.items() if theirs in adapted))


def open_checked(
    directory: str | Path, config: DecoderConfig, lora: Lora
) -> dict[_Leaf, list[StoredTensor]]:
    """The open tensors, one a layer, of every adapter leaf; reads headers only.

    Raises UserError for what `load_adapters` refuses.
    """
    stored = read_lora(directory)
    same_shape = (stored.rank, {*stored.matrices}) == (lora.rank, {*lora.matrices})
    if not same_shape or not math.isclose(stored.alpha, lora.alpha):
        raise UserError(
            f"the adapters in {directory} have other settings than these; give {_as_flags(stored)}"
        )
    leaves, tensors = _leaves(config, lora), _open(Path(directory))
    expected = {name: leaf.peft_shape for leaf in leaves for name in leaf.names}
    check_tensors(tensors, expected, f"{Path(directory) / WEIGHTS} does not fit the model")
    return {leaf: [tensors[name] for name in leaf.names] for leaf in leaves}


def load_adapters(
    directory: str | Path, config: DecoderConfig, lora: Lora, shardings: Any = None
) -> dict:
    """The adapters of `Decoder(config, lora=lora)`, as the second result of `lora.split`, in float32.

    shardings: a pytree of NamedSharding like the result, or None for the default device. Raises
    UserError as `read_lora`, for adapters of another rank, alpha or set of matrices than `lora`, and
    naming every missing, unexpected or mis-shaped tensor.
    """
    layers = open_checked(directory, config, lora)
    adapters = {
        leaf.path: np.stack([leaf.from_peft(tensor.read()) for tensor in tensors])
        for leaf, tensors in layers.items()
    }
    return put(unflatten_dict(adapters), shardings)


def save_adapters(
    directory: str | Path, adapters: Mapping[str, Any], config: DecoderConfig, lora: Lora, base: str
) -> None:
    """Writes a directory that `peft.PeftModel.from_pretrained` reads, in the place of an old one.

    base: the name or directory of the model that the adapters belong to.
    """
    flat, leaves = flatten_dict(adapters), _leaves(config, lora)
    shapes = {name: leaf.peft_shape for leaf in leaves for name in leaf.names}
    tensors = (
        leaf.to_peft(row) for leaf in leaves for row in np.asarray(flat[leaf.path], np.float32)
    )
    with replacing_folder(directory) as folder:
        text = json.dumps(_settings(lora, base), indent=2, sort_keys=True)
        (folder / CONFIG).write_text(text + "\n")
        write_file(folder / WEIGHTS, shapes, np.float32, tensors)


@dataclass(frozen=True)
class _Leaf:
    """One adapter leaf [L, *shape] of ours, and PEFT's tensor of each layer.

    PEFT has A as [rank, inputs] and B as [outputs, rank]; we have them the other way round, with the
    axes of the inputs and outputs apart.
    """

    path: tuple[str, ...]
    names: tuple[str, ...]
    shape: tuple[int, ...]

    @property
    def peft_shape(self) -> tuple[int, int]:
        rank_last = self.path[-1].endswith(A)
        rank = self.shape[-1] if rank_last else self.shape[0]
        features = math.prod(self.shape) // rank
        return (rank, features) if rank_last else (features, rank)

    def from_peft(self, tensor: np.ndarray) -> np.ndarray:
        return tensor.astype(np.float32).T.reshape(self.shape)

    def to_peft(self, array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(array.reshape(self.peft_shape[::-1]).T)


def _leaves(config: DecoderConfig, lora: Lora) -> list[_Leaf]:
    hf_names = {tuple(path.split("/")): name.removesuffix(".weight") for path, name, _ in TABLE}
    _, adapters = lora_lib.split(nn.unbox(abstract_params(Decoder(config, lora=lora))))

    def leaf(path: tuple[str, ...], shape: tuple[int, ...]) -> _Leaf:
        *block, name = path
        side = A if name.endswith(A) else B
        module = "base_model.model." + hf_names[*block, name.removesuffix(side)]
        names = tuple(f"{module.format(i)}.{_SIDES[side]}.weight" for i in range(shape[0]))
        return _Leaf(path, names, shape[1:])

    return [leaf(path, array.shape) for path, array in flatten_dict(adapters).items()]


def _settings(lora: Lora, base: str) -> dict[str, Any]:
    """What PEFT needs to know; the rest has defaults there."""
    ours = {name: theirs for theirs, name in MATRICES.items()}
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "r": lora.rank,
        "lora_alpha": int(lora.alpha) if lora.alpha == int(lora.alpha) else lora.alpha,
        "target_modules": [ours[name] for name in lora.matrices],
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "use_rslora": False,
        "use_dora": False,
        "init_lora_weights": True,
        "inference_mode": True,
    }


def _read_settings(file: Path) -> JsonObject:
    """The contents of `adapter_config.json`. UserError for what is not there or not computed here."""
    settings = JsonObject.read(file, "give a directory that PEFT saved")
    for key, value in settings.values.items():
        if key in _ALLOWED:
            refused = value not in _ALLOWED[key]
        else:
            refused = bool(value) and key not in _HARMLESS | _READ
        if refused:
            raise UserError(
                f"{file}: {key} = {value!r} is not supported; merge these adapters with PEFT "
                "(merge_and_unload) and give the merged model"
            )
    return settings


def _open(directory: Path) -> dict[str, StoredTensor]:
    file, pickle = directory / WEIGHTS, directory / "adapter_model.bin"
    if file.exists():
        return open_tensors(file)
    if pickle.exists():
        raise UserError(
            f"{pickle} is a pickle, which is not read; in PEFT, save_pretrained(..., "
            "safe_serialization=True) writes safetensors"
        )
    raise UserError(f"{file} does not exist; copy or save the adapters again")


def _as_flags(lora: Lora) -> str:
    matrices = ",".join(theirs for theirs, ours in MATRICES.items() if ours in lora.matrices)
    return f"--lora.rank={lora.rank} --lora.alpha={lora.alpha} --lora.matrices={matrices}"
