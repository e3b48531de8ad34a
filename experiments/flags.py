"""The command line, generated from `riskpo_jax.config`: one flag a setting, dotted names.

Importing this module defines the flags that all programs share.
"""

from __future__ import annotations

import math
import sys
import typing
from collections.abc import Callable, Container
from pathlib import Path
from typing import Any

from absl import app, flags, logging

from riskpo_jax import config as config_lib
from riskpo_jax.config_rules import resolve
from riskpo_jax.errors import UserError


def define_flags(flag_values: flags.FlagValues = flags.FLAGS) -> None:
    """Defines `--section.name` for every setting of `Config`."""
    for name, field, kind in config_lib.leaves():
        help_text, default = field.metadata["help"], field.default
        if choices := field.metadata["choices"]:
            flags.DEFINE_enum(name, default, choices, help_text, flag_values)
        elif typing.get_origin(kind) is tuple:
            flags.DEFINE_list(name, list(map(str, default)), help_text, flag_values)
        else:
            define = _DEFINERS[_scalar(kind)]
            define(name, default, help_text, flag_values=flag_values)


def config_from_flags(flag_values: flags.FlagValues = flags.FLAGS) -> config_lib.Config:
    """The configuration that the parsed flags describe, resolved.

    Raises:
      UserError: a value that does not parse, or settings that contradict each other.
    """
    values = {name: _value(name, kind, flag_values) for name, _, kind in config_lib.leaves()}
    return resolve(config_lib.from_flat(values))


def given_settings(flag_values: flags.FlagValues = flags.FLAGS) -> dict[str, Any]:
    """The settings that the command line or a flagfile gives, dotted name -> value.

    Raises:
      UserError: a value that does not parse.
    """
    return {
        name: _value(name, kind, flag_values)
        for name, _, kind in config_lib.leaves()
        if flag_values[name].present
    }


def as_flagfile(config: config_lib.Config, names: Container[str] | None = None) -> str:
    """A flagfile that describes `config` in full, or the settings of these dotted names."""
    lines = []
    for name, value in config_lib.to_flat(config).items():
        if names is not None and name not in names:
            continue
        if isinstance(value, list):
            value = ",".join(map(str, value))
        if value is not None:
            lines.append(f"--{name}={str(value).lower() if isinstance(value, bool) else value}")
    return "\n".join(lines) + "\n"


def required_path(flag: flags.FlagHolder[str | None]) -> Path:
    """The path that `flag` gives.

    Raises:
      UserError: the flag is not given.
    """
    if not flag.value:
        raise UserError(f"--{flag.name}=DIR is required")
    return Path(flag.value)


def positive_numbers(flag: flags.FlagHolder[list[str]]) -> list[float]:
    """The numbers of a list flag.

    Raises:
      UserError: one that does not parse or is not greater than 0.
    """
    values = list(_parse_list(flag.name, flag.value, float))
    if not all(0 < value < math.inf for value in values):
        raise UserError(f"--{flag.name}={','.join(flag.value)} must be numbers greater than 0")
    return values


def refuse_settings(*allowed: str) -> None:
    """For programs that take their settings from elsewhere.

    Raises:
      UserError: a setting is given that is not `allowed`, and would be ignored.
    """
    for name, _, _ in config_lib.leaves():
        if flags.FLAGS[name].present and name not in allowed:
            hint = f"; of the settings it takes --{' and --'.join(allowed)}" if allowed else ""
            raise UserError(f"--{name} means nothing to this program{hint}")


def run(main: Callable[[], None]) -> None:
    """Runs `main` under absl; a `UserError` is printed as one line and exits with status 1."""

    def guarded(argv: list[str]) -> None:
        if len(argv) > 1:
            sys.exit(f"error: unexpected argument {argv[1]!r}; settings are given as --name=value")
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax reports every file at INFO
        try:
            main()
        except UserError as error:
            sys.exit(f"error: {error}")
        except KeyboardInterrupt:
            hint = "what is saved stays, and the same command goes on from it"
            print(f"interrupted; {hint}", file=sys.stderr)
            sys.exit(130)  # as the shell has it

    app.run(guarded, flags_parser=_parse)


def _parse(argv: list[str]) -> list[str]:
    try:
        return flags.FLAGS(argv)
    except flags.Error as error:
        hint = "; paths are relative to the current folder" if "flagfile" in str(error) else ""
        sys.exit("error: " + str(error).removeprefix("ERROR:: ").replace("\n", " ") + hint)


def _value(name: str, kind: type, flag_values: flags.FlagValues) -> Any:
    value = flag_values[name].value
    if typing.get_origin(kind) is tuple:
        return _parse_list(name, value, typing.get_args(kind)[0])
    return value


def _parse_list(name: str, words: list[str], item: type) -> tuple:
    try:
        return tuple(item(word.strip()) for word in words)
    except ValueError:
        raise UserError(
            f"--{name}={','.join(words)} is not a comma-separated list of {item.__name__}"
        ) from None


def _scalar(kind: type) -> type:
    """str of `str` and of `str | None`."""
    return next((a for a in typing.get_args(kind) if a is not type(None)), kind)


_DEFINERS = {
    bool: flags.DEFINE_boolean,
    int: flags.DEFINE_integer,
    float: flags.DEFINE_float,
    str: flags.DEFINE_string,
}

define_flags()
WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; made if it is not there.")
