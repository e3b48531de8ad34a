"""What JAX compiles, counted while it does."""

from __future__ import annotations

from collections import Counter

import jax

_COMPILE = "/jax/core/compile/backend_compile_duration"
_HIT = "/jax/compilation_cache/cache_hits"


class CompileCounter:
    """Counts the programs that this process compiles, or loads from the persistent cache, until closed.

    by_function: how many of each function, by its name. seconds: what the compiler, or loading, took;
    tracing and lowering are not in it. cache_hits: how many were loaded.
    """

    def __init__(self):
        self.by_function: Counter[str] = Counter()
        self.seconds = 0.0
        self.cache_hits = 0
        jax.monitoring.register_event_duration_secs_listener(self._on_duration)
        jax.monitoring.register_event_listener(self._on_event)

    @property
    def count(self) -> int:
        return self.by_function.total()

    def close(self) -> None:
        jax.monitoring.unregister_event_duration_listener(self._on_duration)
        jax.monitoring.unregister_event_listener(self._on_event)

    def _on_duration(self, event: str, seconds: float, fun_name: str = "", **_) -> None:
        if event == _COMPILE:
            self.by_function[fun_name] += 1
            self.seconds += seconds

    def _on_event(self, event: str, **_) -> None:
        self.cache_hits += event == _HIT
