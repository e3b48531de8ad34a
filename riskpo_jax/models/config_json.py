"""A JSON file read key by key; every complaint is one line that names the file and the key."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from riskpo_jax.errors import UserError

_ACCEPTED = {
    bool: (bool, "true or false"),
    int: (int, "an integer"),
    float: ((int, float), "a number"),
    str: (str, "a string"),
    list: (list, "a list"),
    dict: (Mapping, "an object"),
}


@dataclass(frozen=True)
class JsonObject:
    """An object of the file `where`; `prefix` is the path to it inside the file ("rope_scaling.")."""

    values: Mapping[str, Any]
    where: str
    prefix: str = ""

    @classmethod
    def read(cls, file: Path, remedy: str = "copy it again") -> JsonObject:
        """The object in a file; `remedy` says what to do where there is no such file."""
        try:
            values = json.loads(file.read_text())
        except (FileNotFoundError, NotADirectoryError):
            raise UserError(f"{file} does not exist; {remedy}") from None
        except OSError as error:
            raise UserError(f"{file} cannot be read ({error.strerror}); copy it again") from None
        except ValueError as error:
            raise UserError(f"{file} is not valid JSON ({error}); copy it again") from None
        if not isinstance(values, dict):
            raise UserError(f"{file} must hold a JSON object, not {type(values).__name__}")
        return cls(values, str(file))

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        """The value of `key` as `kind`, a key of _ACCEPTED.

        Absent and null are the default. Raises UserError for a value of another type; an integer is
        a number, but true is neither.
        """
        value = self.values.get(key)
        if value is None:
            return default
        accepted, words = _ACCEPTED[kind]
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
            raise self.error(f"{self.prefix}{key} = {value!r} must be {words}")
        return kind(value)

    def need(self, key: str, kind: type) -> Any:
        """As `get`; raises UserError where there is nothing."""
        if self.values.get(key) is None:
            raise self.error(
                f"missing key '{self.prefix}{key}'; copy the file from the model again"
            )
        return self.get(key, kind)

    def size(self, key: str, default: int | None = None) -> int:
        """A positive integer; needed where there is no default."""
        value = self.need(key, int) if default is None else self.get(key, int, default)
        if value < 1:
            raise self.error(f"{self.prefix}{key} = {value} must be positive")
        return value

    def positive(self, key: str) -> float:
        """A positive, finite number, which is needed."""
        value = self.need(key, float)
        if not 0 < value < math.inf:
            raise self.error(f"{self.prefix}{key} = {value} must be positive and finite")
        return value

    def ids(self, key: str, vocab_size: int) -> tuple[int, ...]:
        """Tokens of a vocabulary, which the file has as nothing, one integer or a list of them."""
        value = self.values.get(key)
        each = value if isinstance(value, list) else [] if value is None else [value]
        if not all(type(one) is int and 0 <= one < vocab_size for one in each):
            raise self.error(
                f"{self.prefix}{key} = {value!r} must be a token id below {vocab_size} or a list "
                "of such"
            )
        return tuple(each)

    def child(self, key: str) -> JsonObject:
        """The object at `key`, empty where there is none."""
        return JsonObject(self.get(key, dict, {}), self.where, f"{self.prefix}{key}.")

    def allow(self, key: str, value: Any, allowed: tuple[str, ...]) -> None:
        """Raises UserError unless `value`, which stands at `key`, is one of the allowed."""
        if value not in allowed:
            raise self.error(
                f"{self.prefix}{key} = {value!r} is not supported; allowed: {', '.join(allowed)}"
            )

    def error(self, message: str) -> UserError:
        return UserError(f"{self.where}: {message}")
