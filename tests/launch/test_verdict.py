"""A plan fits or it does not, by arithmetic, and the line says by how much and what to change."""

import pytest

from launch.costs import Costs
from launch.measure import GIB, Measured, Memory, needed_bytes
from launch.verdict import misfit
from riskpo_jax.config import from_flat

FINE = Memory(GIB, 0, GIB, 0)
SMALL = {"model.param_dtype": "bfloat16", "train.moment_dtype": "bfloat16", "model.remat": "all"}


def verdict(settings=None, capacity=16, costs=Costs(0, 0), **memories):  # noqa: B008
    """The line for a run on 8 chips, 4 data shards."""
    layout = {"mesh.fsdp": 4, "mesh.tensor": 2, "rollout.slots": 8}
    lengths = {"rollout.max_response_length": 512, "train.tokens_per_micro_batch": 512}
    config = from_flat({**layout, **lengths, **SMALL, **(settings or {})})
    measured = {
        name.replace("_", " "): Measured(memory, 1, costs) for name, memory in memories.items()
    }
    return misfit(config, measured, capacity * GIB, chips=8, shards=4)


def test_the_capacity_itself_fits():
    assert verdict(gradient=Memory(4 * GIB, GIB, 8 * GIB, 3 * GIB), decode=FINE) is None
    assert verdict(gradient=Memory(4 * GIB, GIB, 8 * GIB, 3 * GIB + 1), decode=FINE)


def test_the_line_has_the_numbers_of_the_worst_program():
    larger, large = Memory(GIB, 0, 20 * GIB, 2 * GIB), Memory(0, 0, 17 * GIB, 0)
    line = verdict(read_prompts=large, gradient=larger, apply=FINE)
    assert line.startswith(
        "does not fit: gradient needs 23.00 GiB a chip, 7.00 more than the 16.00 there are "
        "(arguments 1.00, temporaries 20.00, beside it 2.00): "
    )
    assert "\n" not in line


def test_an_update_that_does_not_fit_comes_before_a_rollout():
    large, larger = Memory(GIB, 0, 16 * GIB, 0), Memory(GIB, 0, 30 * GIB, 0)
    assert "fit: gradient needs" in verdict(gradient=large, decode=larger)
    assert "fit: decode needs" in verdict(gradient=FINE, decode=larger)


def test_what_was_not_compiled_needs_at_least_that():
    line = verdict(costs=None, gradient=Memory(17 * GIB, 0, 0, 0))
    assert "gradient needs at least 17.00 GiB a chip" in line


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"model.remat": "none"}, "give --model.remat=all (now none)"),
        ({"model.remat": "products"}, "give --model.remat=all (now products)"),
        (
            {"train.tokens_per_micro_batch": 1024},
            "lower --train.tokens_per_micro_batch=1024, to as few as 512, one response",
        ),
        ({"train.moment_dtype": "float32"}, "give --train.moment_dtype=bfloat16 (now float32)"),
        ({}, "raise tensor in --mesh (now 2)"),
    ],
)
def test_an_update_too_large_is_made_smaller_by_what_is_left(settings, remedy):
    assert f": {remedy}" in verdict(settings, gradient=Memory(GIB, 0, 20 * GIB, 0))


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        (
            {"rollout.slots": 24},
            "lower --rollout.slots=24, 3 a data shard, or raise --rollout.tensor=1",
        ),
        ({}, "give --rollout.kv_cache_dtype=int8 (now compute)"),
        ({"rollout.kv_cache_dtype": "int8"}, "raise --rollout.tensor=1, the chips that share a"),
        ({"rollout.slots": 12, "rollout.tensor": 0}, "lower --rollout.slots=12, 3 a data shard"),
        (
            {"rollout.kv_cache_dtype": "int8", "rollout.tensor": 0, "rollout.slots": 4},
            "raise tensor in --mesh (now 2), or take more chips",
        ),
    ],
)
@pytest.mark.parametrize("what", [Memory(GIB, 0, 20 * GIB, 0), Memory(21 * GIB, 0, 0, 0)])
def test_a_rollout_too_large_decodes_fewer_or_divides_the_model_further(settings, remedy, what):
    assert f": {remedy}" in verdict(settings, decode=what)


def test_a_copy_that_has_no_room_is_divided_further():
    line = verdict({"rollout.slots": 64}, lay_out=Memory(GIB, 20 * GIB, 0, 0))
    assert ": raise --rollout.tensor=1, the chips that share a copy of the model" in line


def test_a_state_too_large_wants_smaller_types_more_fsdp_or_more_chips():
    state = Memory(24 * GIB, 0, GIB, 0)
    both = "--train.moment_dtype=bfloat16 (now float32) and --model.param_dtype=bfloat16"
    wide = {"train.moment_dtype": "float32", "model.param_dtype": "float32"}
    assert both in verdict(wide, gradient=state)
    assert ": at least 12 such chips" in verdict(gradient=state)
    copies = {"mesh.data": 2, "mesh.fsdp": 2}
    assert "a larger --mesh fsdp (now 2)" in verdict(copies, gradient=state)


@pytest.mark.parametrize(
    ("message", "size"),
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
            "(28.46G) exceeds available HBM (15.75G).",
            28.46 * GIB,
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 1.50T of 95.74G hbm. Exceeded",
            1536 * GIB,
        ),
        ("INVALID_ARGUMENT: something else", None),
    ],
)
def test_the_compilers_own_number_is_read(message, size):
    assert needed_bytes(message) == (size if size is None else int(size))
