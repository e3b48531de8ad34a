"""Sets in the formats of Hugging Face's `datasets`: Parquet, JSON or CSV files, folders, names of the hub."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType

from riskpo_jax.data.problem import Problem
from riskpo_jax.data.rows import problem_of
from riskpo_jax.errors import UserError

FORMATS = {".parquet": "parquet", ".json": "json", ".jsonl": "json", ".csv": "csv"}


def import_datasets() -> ModuleType:
    """The library, or a UserError that says how to install it."""
    try:
        import datasets
    except ImportError as error:
        raise UserError(
            f"sets of the kind datasets: need an optional package ({error}): "
            "pip install 'riskpo_jax[datasets]'"
        ) from error
    return datasets


class HubSource:
    """The rows of one split of `where`: a file (`FORMATS`), a folder of such files or a name of the hub.

    `columns` says which fields have another name (as for `JsonlSource`); rows without an id are counted.
    `dataset` is the last part of the name without its ending.

    Raises UserError when the package is missing, `where` cannot be read or reached, and for the first
    row without a required field.
    """

    def __init__(
        self, where: str, config: str | None, split: str, columns: Mapping[str, str] | None = None
    ):
        library = import_datasets()
        path = Path(where)
        kind = FORMATS.get(path.suffix.lower())
        if kind and not path.exists():
            raise UserError(f"datasets:{where}: there is no such file")
        try:
            if kind and path.is_file():
                rows = library.load_dataset(kind, data_files={split: where}, split=split)
            else:
                rows = library.load_dataset(where, config, split=split)
        except Exception as error:  # the library and what it calls raise errors of every kind
            reason = str(error).partition("\n")[0][:300] or type(error).__name__
            raise UserError(
                f"datasets:{where}: cannot load split {split} ({reason}): give a file "
                f"({', '.join(FORMATS)}), a folder of such, or a name of the hub that can be reached"
            ) from error
        self._rows, self._name, self._columns = rows, path.stem, columns or {}
        for index in range(len(self)):
            self[index]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Problem:
        if not 0 <= index < len(self):
            raise IndexError(index)
        place, unnamed = f"{self._name}, row {index}", f"{self._name}-{index}"
        return problem_of(self._rows[index], place, self._name, self._columns, unnamed)
