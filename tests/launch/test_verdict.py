"""A plan fits or it does not, by arithmetic, and the line says by how much and what to change."""

import pytest

from launch.costs import Costs
from launch.measure import GIB, Measured, Memory, needed_bytes
from launch.verdict import misfit
from riskpo_jax.config import from_flat

FINE = Memory(GIB, 0, GIB, 0)
SMALL = {"model.param_dtype": "bfloat16", "train.moment_dtype": "bfloat16", "model.remat": True}


def verdict(settings=None, capacity=16, costs=Costs(0, 0), **memories):  # noqa: B008
    """The line for a run on 8 chips, 4 data shards."""
    defaults = {"mesh.fsdp": 4, "mesh.tensor": 2, "train.micro_batch_size": 4}
    config = from_flat({**defaults, "rollout.questions_at_once": 4, **SMALL, **(settings or {})})
    measured = {
        name.replace("_", " "): Measured(memory, 1, costs) for name, memory in memories.items()
    }
    return misfit(config, measured, capacity * GIB, chips=8, shards=4)


def test_the_capacity_itself_fits():
    assert verdict(train_step=Memory(4 * GIB, GIB, 8 * GIB, 3 * GIB), rollout=FINE) is None
    assert verdict(train_step=Memory(4 * GIB, GIB, 8 * GIB, 3 * GIB + 1), rollout=FINE)


def test_the_line_has_the_numbers_of_the_worst_program():
    line = verdict(train_step=Memory(0, 0, 17 * GIB, 0), rollout=Memory(GIB, 0, 20 * GIB, 2 * GIB))
    assert line.startswith(
        "does not fit: rollout needs 23.00 GiB a chip, 7.00 more than the 16.00 there are "
        "(arguments 1.00, temporaries 20.00, beside it 2.00): "
    )
    assert "\n" not in line


def test_what_was_not_compiled_needs_at_least_that():
    line = verdict(costs=None, train_step=Memory(17 * GIB, 0, 0, 0))
    assert "train step needs at least 17.00 GiB a chip" in line


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"model.remat": False}, "give --model.remat"),
        (
            {"train.micro_batch_size": 8},
            "lower --train.micro_batch_size=8, 2 a data shard, to as few as 4",
        ),
        ({"train.moment_dtype": "float32"}, "give --train.moment_dtype=bfloat16 (now float32)"),
        ({}, "raise tensor in --mesh (now 2)"),
    ],
)
def test_an_update_too_large_is_made_smaller_by_what_is_left(settings, remedy):
    assert f": {remedy}" in verdict(settings, train_step=Memory(GIB, 0, 20 * GIB, 0))


@pytest.mark.parametrize(
    ("settings", "remedy"),
    [
        ({"rollout.questions_at_once": 12}, "lower --rollout.questions_at_once=12, 3 a data shard"),
        ({}, "raise tensor in --mesh, or lower --rollout.group_size=8"),
    ],
)
def test_a_rollout_too_large_samples_fewer_at_once(settings, remedy):
    assert f": {remedy}" in verdict(settings, rollout=Memory(GIB, 0, 20 * GIB, 0))


def test_a_state_too_large_wants_smaller_types_more_fsdp_or_more_chips():
    state = Memory(24 * GIB, 0, GIB, 0)
    both = "--train.moment_dtype=bfloat16 (now float32) and --model.param_dtype=bfloat16"
    wide = {"train.moment_dtype": "float32", "model.param_dtype": "float32"}
    assert both in verdict(wide, train_step=state)
    assert ": at least 12 such chips" in verdict(train_step=state)
    copies = {"mesh.data": 2, "mesh.fsdp": 2}
    assert "a larger --mesh fsdp (now 2)" in verdict(copies, train_step=state)


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
