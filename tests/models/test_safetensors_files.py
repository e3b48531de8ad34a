"""Our reader and writer against the safetensors library, NumPy's indexing and damaged files."""

import math

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from riskpo_jax.errors import UserError
from riskpo_jax.models import safetensors_files
from riskpo_jax.models.safetensors_files import (
    DTYPES,
    INDEX,
    WEIGHTS,
    open_tensors,
    split_into_shards,
    write_tensors,
)

SHAPES = {"a": (5, 7), "b": (3,), "c": (2, 3, 4), "d": (1, 1)}


def tensors_of(dtype) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


def assert_same(found, expected):
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
def test_the_library_reads_what_we_write_and_we_what_it_writes(dtype, tmp_path):
    tensors = tensors_of(dtype)
    write_tensors(tmp_path, SHAPES, dtype, tensors.values(), 10**9)
    save_file(tensors, tmp_path / "theirs.safetensors", metadata={"long": "x" * 13})
    theirs = load_file(tmp_path / WEIGHTS)
    ours = open_tensors(tmp_path / "theirs.safetensors")
    assert theirs.keys() == ours.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert_same(theirs[name], tensor)
        assert_same(ours[name].read(), tensor)


@pytest.mark.parametrize("window", [1, 100, 10**9])
def test_a_slice_is_read_as_numpy_cuts_it(window, tmp_path, monkeypatch):
    """Also a window of the file at a time: less than a row, a few rows, all."""
    monkeypatch.setattr(safetensors_files, "_WINDOW", window)
    whole = np.arange(11 * 6 * 4, dtype=np.float32).reshape(11, 6, 4)
    save_file({"x": np.ones(3, np.float32), "y": whole, "z": whole[0, 0]}, tmp_path / WEIGHTS)
    tensors = open_tensors(tmp_path / WEIGHTS)
    for index in [
        np.s_[:, :, :], np.s_[2:9, :, :], np.s_[:, 3:5, :], np.s_[1:2, 0:1, 2:4], np.s_[4:4, :, :]
    ]:  # fmt: skip
        assert_same(tensors["y"].read(index), whole[index])
    assert_same(tensors["y"].read(np.s_[3:5,]), whole[3:5])
    assert_same(tensors["z"].read(np.s_[1:3,]), whole[0, 0, 1:3])


@given(st.lists(st.integers(1, 30), min_size=1), st.integers(1, 40))
def test_shards_keep_the_order_and_are_full(sizes, most):
    shards = split_into_shards({str(i): size for i, size in enumerate(sizes)}, most)
    assert [int(name) for shard in shards for name in shard] == list(range(len(sizes)))
    totals = [[sizes[int(name)] for name in shard] for shard in shards]
    assert all(sum(shard) <= most or len(shard) == 1 for shard in totals)
    assert all(sum(a) + b[0] > most for a, b in zip(totals, totals[1:], strict=False))


def test_shards_are_read_back_through_their_index(tmp_path):
    tensors = tensors_of(jnp.float16)
    write_tensors(tmp_path, SHAPES, jnp.float16, tensors.values(), 80)
    found = open_tensors(tmp_path / INDEX)
    assert {name: tensor.shape for name, tensor in found.items()} == SHAPES
    assert len({tensor.file for tensor in found.values()}) == 2
    for name, tensor in tensors.items():
        assert_same(found[name].read(), tensor)


def test_a_file_cut_anywhere_is_named(tmp_path):
    file = tmp_path / WEIGHTS
    write_tensors(tmp_path, SHAPES, np.float32, tensors_of(np.float32).values(), 10**9)
    data = file.read_bytes()
    header = len(data) - 4 * sum(map(math.prod, SHAPES.values()))
    for size in [0, 5, 8, 20, header, len(data) - 1]:
        file.write_bytes(data[:size])
        damage = rf"{file} is cut short or damaged \({size} bytes, not "
        with pytest.raises(UserError, match=damage):
            open_tensors(file)


@pytest.mark.parametrize("header", [b"[]", b'{"x": 1}', b'{"x": {"dtype": "F32"}}', b"\xff\xfe"])
def test_a_header_of_something_else_is_named(header, tmp_path):
    file = tmp_path / WEIGHTS
    file.write_bytes(len(header).to_bytes(8, "little") + header)
    with pytest.raises(UserError, match=f"{file} is cut short or damaged"):
        open_tensors(file)
