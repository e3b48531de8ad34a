"""Time is counted once, where it was spent, and under the name that the source gave it."""

import jax
import jax.numpy as jnp
import pytest

from experiments import profiling
from experiments.profiling import Event, by_part, part_of, self_seconds


def test_what_is_inside_is_not_counted_twice():
    loop, body, after = ("m", "while.1"), ("m", "dot.2"), ("m", "add.3")
    lines = [
        [
            Event(5e9, 1e9, *body),
            Event(0, 10e9, *loop),
            Event(1e9, 3e9, *body),
            Event(10e9, 2e9, *after),  # begins where the loop ends
        ],
        [Event(2e9, 4e9, *after)],  # another thread
    ]
    assert self_seconds(lines) == {loop: 6.0, body: 4.0, after: 6.0}


@pytest.mark.parametrize(
    ("operation", "scope", "part"),
    [
        ("dot.1", "jit(f)/jvp(Decoder)/while/body/layers/attention/attention.linear/dot_general",
         "forward attention projections"),
        ("dot.1", "jit(f)/transpose(jvp(Decoder))/while/body/layers/attention/bkqs,bksd->bkqd/dot_general",
         "backward attention"),
        ("dot.1", "jit(f)/transpose(jvp(Decoder))/rematted_computation/layers/mlp/mlp.linear/dot_general",
         "recomputed feed-forward"),
        ("dot.1", "jit(f)/while/body/Decoder.unembed/...m,vm->...v/dot_general", "head"),
        ("fusion", "jit(f)/while/body/sampling/jit(log_softmax)/sub", "sampling"),
        ("fusion", "jit(f)/jvp(logprobs)/jit(log_softmax)/sub", "forward vocabulary softmax"),
        ("fusion", "jit(f)/jvp(Decoder)/while/body/jit(dynamic_update_index_in_dim)/dynamic_update_slice",
         "forward activations and cache moved"),
        ("copy.7", "", "copies and fills"),
        ("wrapped_broadcast.5", "jit(f)/while/body/closed_call", "copies and fills"),
        ("add.2", "", "other"),
    ],
)  # fmt: skip
def test_parts(operation, scope, part):
    assert part_of("jit_f", operation, scope) == f"f: {part}"


def test_parts_of_one_name_add_up_and_the_largest_is_first():
    seconds = {("jit_f", "add"): 1.0, ("jit_f", "copy.1"): 2.0, ("jit_f", "copy.2"): 0.5}
    assert list(by_part(seconds, {}).items()) == [("f: copies and fills", 2.5), ("f: other", 1.0)]


def test_a_program_that_runs_is_seen_with_its_scopes():
    @jax.jit
    def heavy(x):
        with jax.named_scope("sampling"):
            x = jnp.linalg.matrix_power(x, 16)
        with jax.named_scope("optimizer"):
            return jnp.sort(x, axis=-1)

    x = jnp.eye(256)
    heavy(x).block_until_ready()
    parts = profiling.profile(lambda: heavy(x).block_until_ready())
    assert {"heavy: sampling", "heavy: optimizer"} <= set(parts)
    assert all(seconds >= 0 for seconds in parts.values())
