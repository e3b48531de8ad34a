"""The counter sees what compiles, by name, and only while it is open."""

import contextlib

import jax
import jax.numpy as jnp

from riskpo_jax.compilation import CompileCounter


def test_a_program_counts_once_for_each_shape():
    @jax.jit
    def doubled(x):
        return 2 * x

    short, long = jnp.ones(3), jnp.ones(4)
    with contextlib.closing(CompileCounter()) as compiled:
        for x in (short, short, long, long, short):
            doubled(x)
        assert compiled.count == 2 and compiled.seconds > 0
        assert compiled.by_function == {"jit(doubled)": 2}
        jax.jit(lambda x: x - 1)(short)
        assert compiled.count == 3
    doubled(jnp.ones(5))
    assert compiled.by_function["jit(doubled)"] == 2


def test_two_counters_do_not_see_each_others_past():
    with contextlib.closing(CompileCounter()) as early:
        jax.jit(lambda x: x + 3)(1.0)
        with contextlib.closing(CompileCounter()) as late:
            jax.jit(lambda x: x + 4)(1.0)
        assert (early.count, late.count) == (2, 1)
