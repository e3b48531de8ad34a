"""Writes a model for other tools: `python -m experiments.export --checkpoint=RUN --out=DIR`.

--checkpoint is a run's folder (its latest checkpoint), RUN/checkpoints/N (that one), or a Hugging Face
directory, to cast, divide or merge it. The run's own settings say what it trained; if its model has
moved since, --model.path says where to. Adapters that were trained, and those of --adapter, are added to
the weights. It runs on the CPU, beside a run that has the accelerators.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from absl import flags
from rich.console import Console

from experiments import flags as experiment_flags
from riskpo_jax.data.tokenizers import READ_OTHERWISE
from riskpo_jax.errors import UserError
from riskpo_jax.files import replacing_folder
from riskpo_jax.models import peft
from riskpo_jax.models.decoder import Decoder
from riskpo_jax.sharding import make_mesh
from riskpo_jax.training import setup, weights
from riskpo_jax.training.model_directory import write_model
from riskpo_jax.training.source import find_source, load_params

_CHECKPOINT = flags.DEFINE_string(
    "checkpoint", None, "A run's folder, RUN/checkpoints/N, or a Hugging Face model directory."
)
_OUT = flags.DEFINE_string("out", None, "Folder for the model; new or empty.")
_ADAPTER = flags.DEFINE_string("adapter", None, "Adapter directory of PEFT to add to the weights.")
_DTYPE = flags.DEFINE_enum(
    "dtype",
    None,
    ("float32", "bfloat16", "float16"),
    "Type of the weights; by default that of the checkpoint.",
)
_MAX_SHARD_GB = flags.DEFINE_float(
    "max_shard_gb", 5.0, "Largest safetensors file, in 10^9 bytes, unless one tensor is larger."
)


def main() -> None:
    jax.config.update("jax_platforms", "cpu")
    experiment_flags.refuse_settings("model.path")
    path, out = map(experiment_flags.required_path, (_CHECKPOINT, _OUT))
    with blaming_out(out):
        if out.is_file() or (out.is_dir() and any(out.iterdir())):
            raise UserError(f"--out={out} exists and is not an empty folder: give another")
    if _MAX_SHARD_GB.value <= 0:
        raise UserError(f"--max_shard_gb={_MAX_SHARD_GB.value} must be greater than 0")
    model_path = flags.FLAGS["model.path"]
    source = find_source(path, model_path.value if model_path.present else None)
    if model_path.present and source.run is None:
        raise UserError(f"--model.path contradicts --checkpoint={path}, a model itself: give one")
    policy = setup.load_policy(source.config, source.needs_weights)
    adapted = load_adapter(policy.model, _ADAPTER.value) if _ADAPTER.value else None
    stored = policy.model.param_dtype
    dtype = jnp.dtype(_DTYPE.value or stored)
    mesh = make_mesh(devices=jax.devices()[:1])
    with contextlib.ExitStack() as stack:
        with blaming_out(out):  # before the work
            folder = stack.enter_context(replacing_folder(out))
        params = load_params(source, policy, mesh, jnp.promote_types(dtype, stored))
        if adapted:
            model, adapters = adapted
            params = weights.merged(model, params, adapters)
        with blaming_out(out):
            alike = write_model(folder, policy, params, dtype, round(_MAX_SHARD_GB.value * 1e9))
            stack.close()
    lines = [summary(out, params, dtype), *([] if alike else [f"{out}: {READ_OTHERWISE}"])]
    Console().print("\n".join(lines), soft_wrap=True, highlight=False)


@contextlib.contextmanager
def blaming_out(out: Path) -> Iterator[None]:
    """Turns what the system says about the place into a UserError."""
    try:
        yield
    except OSError as error:
        raise UserError(f"--out={out}: {error.strerror or error}; give another place") from error


def load_adapter(model: Decoder, directory: str) -> tuple[Decoder, Any]:
    """The model with the adapters of PEFT's `directory` instead of its own, and these."""
    lora = peft.read_lora(directory)
    return model.clone(lora=lora), peft.load_adapters(directory, model.config, lora)


def summary(directory: Path, params: Any, dtype: jnp.dtype) -> str:
    files = [file.stat().st_size for file in directory.glob("*.safetensors")]
    count = sum(x.size for x in jax.tree.leaves(params))
    return (
        f"{directory}: {count:,} parameters in {dtype}, {len(files)} safetensors "
        f"file{'s' * (len(files) > 1)} of {sum(files):,} bytes"
    )


if __name__ == "__main__":
    experiment_flags.run(main)
