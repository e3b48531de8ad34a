"""Compiled programs, kept between processes."""

from __future__ import annotations

import os
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache

from riskpo_jax.errors import UserError

OFF = "none"
_MAX_BYTES = 4 * 2**30


def use_compile_cache(directory: str) -> str | None:
    """Sets JAX's persistent cache for this process, and returns its folder; None where it is off.

    directory: a folder, or a URL that JAX can open; OFF; empty is JAX's own setting
    ($JAX_COMPILATION_CACHE_DIR) and without it, on GPU and TPU, `riskpo_jax/compiled` in the user's
    cache folder, where the least recently used programs go beyond 4 GiB. A CPU has no default: XLA:CPU
    refuses, with a page of warnings a program, to load on some processors what it compiled on the
    same one (jax-ml/jax#38445), and a home is often shared by processors that differ.

    Raises:
      UserError: a folder that was asked for and cannot be made.
    """
    if directory == OFF:
        jax.config.update("jax_enable_compilation_cache", False)
        return None
    directory = directory or jax.config.jax_compilation_cache_dir
    if directory:
        _make(directory)
    elif jax.default_backend() == "cpu":
        return None
    else:
        directory = str(_user_cache() / "riskpo_jax" / "compiled")
        try:
            _make(directory)
        except UserError:  # a home that cannot be written to is no reason not to train
            return None
        jax.config.update("jax_compilation_cache_max_size", _MAX_BYTES)
    jax.config.update("jax_compilation_cache_dir", directory)
    compilation_cache.reset_cache()  # what was compiled before settled that there is none
    return directory


def _make(directory: str) -> None:
    if "://" in directory:
        return
    try:
        os.makedirs(directory, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"compiled programs cannot be kept in {directory} ({error.strerror}): give another folder "
            f"as --compile.cache_dir, or {OFF}"
        ) from None


def _user_cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
