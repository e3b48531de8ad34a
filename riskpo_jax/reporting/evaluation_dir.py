"""The folder of an evaluation: settings, responses by data set, and the rows made from them.

settings.json            what was evaluated, and every setting
responses/<set>.jsonl    one line a response, the S of a problem next to each other, in its set's order
results.json             the rows of the table; there when all sets are done
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from riskpo_jax.config import Config, leaves, to_flat
from riskpo_jax.errors import UserError
from riskpo_jax.files import file_stem, replacing
from riskpo_jax.reporting.files import read_jsonl
from riskpo_jax.reporting.writers import strict_json

# Settings that an evaluation depends on; of the others, a run's own may differ from one to the next.
_SECTIONS = ("seed", "lora.", "model.", "data.", "reward.", "eval.", "mesh.")
_ALSO = ("rollout.max_response_length",)
_BUT = {  # the first is `model`'s to say
    *("model.path", "eval.k", "eval.every"),
    *(name for name, field, _ in leaves() if field.metadata["may_change"]),
}
MODEL = "model"


class EvaluationDir:
    """Paths inside the folder of one evaluation."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        self.settings = self.path / "settings.json"
        self.results = self.path / "results.json"

    def responses(self, dataset: str) -> Path:
        return self.path / "responses" / f"{file_stem(dataset)}.jsonl"

    def check(self, model: str, config: Config) -> None:
        """Whether an evaluation of `model` under `config` may begin or go on here; writes nothing.

        Raises:
          UserError: a setting that differs from the recorded ones, or a folder of something else.
        """
        if self.settings.exists():
            recorded = self.recorded()
            for name, now in _recorded_settings(model, config).items():
                if _matters(name) and recorded.get(name) != now:
                    raise UserError(
                        f"--{name} is {now!r} but {self.path} was begun with "
                        f"{recorded.get(name)!r}: give the old value or another --output"
                    )
        elif self.path.exists() and not (self.path.is_dir() and not any(self.path.iterdir())):
            raise UserError(
                f"--output={self.path} is no empty folder and holds no evaluation (no settings.json): "
                "give another"
            )

    def claim(self, model: str, config: Config) -> None:
        """Records what is evaluated here.

        Raises:
          UserError: as `check`, or a folder that cannot be made.
        """
        self.check(model, config)
        try:
            (self.path / "responses").mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"--output={self.path} cannot be made: {error.strerror}") from error
        with replacing(self.settings) as aside:
            aside.write_text(_as_json(_recorded_settings(model, config)))

    def recorded(self) -> dict[str, Any]:
        """The recorded settings, dotted name -> value, with `model`.

        Raises:
          UserError: there are none.
        """
        try:
            settings = json.loads(self.settings.read_text())
        except (OSError, ValueError) as error:
            raise UserError(
                f"{self.settings}: no settings can be read ({error}): name the folder of an evaluation"
            ) from error
        if not isinstance(settings, dict) or MODEL not in settings:
            raise UserError(f"{self.settings}: these are not the settings of an evaluation")
        return settings

    def finished_rows(self) -> list[dict[str, Any]]:
        """The rows of results.json.

        Raises:
          UserError: there are none, as long as the evaluation is not finished.
        """
        try:
            return json.loads(self.results.read_text())["rows"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.results}: no results can be read ({error}): finish the evaluation first, by the "
                "command that began it"
            ) from error

    def response_rows(self, dataset: str) -> list[dict[str, Any]]:
        """The lines of a set's responses.

        Raises:
          UserError: there is no such file, or a line of it is broken.
        """
        file = self.responses(dataset)
        if not file.exists():
            raise UserError(f"{file} does not exist: {dataset} was not evaluated here")
        return read_jsonl(file)

    def write(
        self,
        model: str,
        config: Config,
        rows: Sequence[Mapping[str, Any]],
        responses: Mapping[str, Sequence[Mapping[str, Any]]] | None = None,
    ) -> None:
        """Writes results.json, and new lines of `responses` with the settings that they come from.

        All are written aside before the first takes its place.
        """
        settings = _recorded_settings(model, config)
        contents = {self.responses(name): as_lines(new) for name, new in (responses or {}).items()}
        contents |= {self.settings: _as_json(settings)} if responses else {}
        contents[self.results] = _as_json({"settings": settings, "rows": rows})
        with contextlib.ExitStack() as places:
            for path, text in contents.items():
                aside = places.enter_context(replacing(path))
                aside.write_text(text, encoding="utf-8", newline="\n")


class ResponseWriter:
    """Appends the lines of whole batches to a file that may have been cut off.

    Args:
      batch: lines of a full batch; a file is cut back to whole ones.
      total: lines of a finished file, whose last batch may be smaller.

    Raises:
      UserError: a file with more lines, which is left alone.
    """

    def __init__(self, path: Path, batch: int, total: int):
        path.touch()
        rows = read_jsonl(path)
        if len(rows) > total:
            raise UserError(
                f"{path} holds {len(rows)} responses where the problems have {total} now: the data have "
                "changed, give another --output"
            )
        whole = len(rows) if len(rows) == total else len(rows) // batch * batch
        _keep_lines(path, whole)
        self.path, self.rows = path, rows[:whole]
        self._file = path.open("a", encoding="utf-8", newline="\n")

    def append(self, rows: Sequence[Mapping[str, Any]]) -> None:
        self._file.write(as_lines(rows))
        self._file.flush()

    def close(self) -> None:
        self._file.close()


def as_lines(rows: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(strict_json(row), allow_nan=False) + "\n" for row in rows)


def _keep_lines(path: Path, count: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    os.truncate(path, sum(map(len, lines[:count])))


def _recorded_settings(model: str, config: Config) -> dict[str, Any]:
    return {MODEL: model, **to_flat(config)}


def _matters(name: str) -> bool:
    if name == MODEL or name in _ALSO:
        return True
    return name.startswith(_SECTIONS) and name not in _BUT


def _as_json(value: Any) -> str:
    return json.dumps(strict_json(value), indent=1) + "\n"
