"""GSM8K and MATH as prepared by our builders of tensorflow-datasets: array_record files, no TensorFlow."""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from riskpo_jax.data.named import NAMED, TFDS_SPLITS, NamedSet, read_named, with_set
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError

FOLDER = "tfds"  # below the data folder


class TfdsSource:
    """A split of GSM8K or MATH, read by random access.

    Prepared once, under `folder`/tfds, from the set's JSON Lines files in `folder`; afterwards those are
    not read. The problems are those of the named set that the split is (`TFDS_SPLITS`).

    Raises UserError for raw files that are absent, with what to download, and for a split that is not
    there.
    """

    def __init__(self, name: str, split: str, folder: Path):
        splits = TFDS_SPLITS[name]
        if split not in splits:
            raise UserError(f"tfds:{name}:{split}: the splits are {', '.join(splits)}")
        builder = _prepared(name, folder)
        if split not in builder.info.splits:
            raise UserError(
                f"tfds:{name}:{split}: {builder.data_path} was prepared without it: remove that folder to "
                f"prepare it again from {NAMED[splits[split]].files[0]}"
            )
        self._named = NAMED[splits[split]]
        self._records = builder.as_data_source(split=split)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(index)
        record = {name: _as_text(value) for name, value in self._records[index].items()}
        metadata = json.loads(record["metadata"])
        problem = Problem(
            record["id"], record["problem"], record["answer"], "", record["level"], metadata
        )
        return with_set(problem, self._named)


def prepared_split(named: NamedSet, folder: Path) -> tuple[str, str] | None:
    """(name, split) of the prepared set in `folder` that holds a named one; None when there is none."""
    for name, splits in TFDS_SPLITS.items():
        for split, of in splits.items():
            if of == named.name and (folder / FOLDER / name).is_dir():
                return name, split
    return None


def _prepared(name: str, folder: Path) -> Any:
    import tensorflow_datasets as tfds  # takes seconds

    module = importlib.import_module(f"riskpo_jax.data.tfds_builders.{name}.builder")
    builder = module.Builder(data_dir=folder / FOLDER, file_format="array_record")
    if not builder.is_prepared():
        read_named(NAMED[TFDS_SPLITS[name]["train"]], folder)  # says what is missing, as we say it
        _prepare(tfds, builder, folder)
    return builder


def _prepare(tfds: ModuleType, builder: Any, folder: Path) -> None:
    """Writes the set beside its place and renames it, which is what tensorflow-datasets does."""
    tfds.disable_progress_bar()
    try:
        with (
            tempfile.TemporaryDirectory() as downloads,  # there are none, but it makes folders for them
            contextlib.redirect_stdout(io.StringIO()),
        ):
            files = tfds.download.DownloadConfig(manual_dir=folder, extract_dir=downloads)
            builder.download_and_prepare(download_dir=downloads, download_config=files)
    except OSError as error:
        raise UserError(
            f"tfds:{builder.name}: cannot be prepared in {folder / FOLDER} ({error.strerror or error}): "
            "give a --data.folder that can be written to"
        ) from error


def _as_text(value: bytes | str) -> str:
    return value.decode() if isinstance(value, bytes) else value
