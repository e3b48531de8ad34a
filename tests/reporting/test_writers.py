"""Writers on real files: what a kill or a resumption leaves is whole, strict JSON."""

import json
import struct
import sys
import types

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.errors import UserError
from riskpo_jax.reporting.files import read_jsonl
from riskpo_jax.reporting.writers import JsonlWriter, MetricWriter, TensorBoardWriter, WandbWriter


def refuse_constant(name):
    raise AssertionError(f"{name} is not strict JSON")


def strict_lines(path):
    return [
        json.loads(line, parse_constant=refuse_constant) for line in path.read_text().splitlines()
    ]


def test_each_line_is_there_at_once_and_strict(tmp_path):
    path = tmp_path / "deep" / "metrics.jsonl"
    writer = JsonlWriter(path)
    writer.write(
        1, {"a": jnp.float32(0.5), "b": np.int64(3), "c": jnp.bfloat16(1.5), "d": float("nan")}
    )
    writer.write(
        2, {"a": -np.inf, "b": [np.float32("nan"), True], "c": {"d": jnp.arange(2)}, "step": 9}
    )
    assert strict_lines(path) == [
        {"step": 1, "a": 0.5, "b": 3, "c": 1.5, "d": None},
        {"step": 2, "a": None, "b": [None, True], "c": {"d": [0, 1]}},
    ]
    writer.close()


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text(max_size=5), st.one_of(st.floats(), st.text(max_size=20), st.booleans())
    )
)
def test_any_text_and_number_comes_back(tmp_path_factory, values):
    path = tmp_path_factory.mktemp("jsonl") / "samples.jsonl"
    writer = JsonlWriter(path)
    writer.write(4, values)
    writer.close()
    expected = {
        key: None if isinstance(value, float) and not np.isfinite(value) else value
        for key, value in values.items()
        if key != "step"
    }
    assert read_jsonl(path) == [{"step": 4} | expected]


def test_what_json_cannot_hold_is_refused(tmp_path):
    writer = JsonlWriter(tmp_path / "m.jsonl")
    with pytest.raises(TypeError, match="object cannot be written"):
        writer.write(1, {"a": object()})
    writer.write(2, {})
    writer.close()
    assert read_jsonl(writer.path) == [{"step": 2}]


def test_every_cut_of_the_last_line_is_dropped_when_reopened(tmp_path):
    path = tmp_path / "metrics.jsonl"
    whole, last = b'{"step": 1, "a": 0.25}\n', b'{"step": 2, "a": 0.5}\n'
    for cut in range(len(last)):
        path.write_bytes(whole + last[:cut])
        writer = JsonlWriter(path)
        writer.write(3, {})
        writer.close()
        assert [row["step"] for row in strict_lines(path)] == [1, 3]


@pytest.mark.parametrize("last", [-1, 0, 2, 3, 9])
def test_truncate_after_keeps_earlier_lines_byte_for_byte(tmp_path, last):
    path = tmp_path / "metrics.jsonl"
    writer = JsonlWriter(path)
    for step in range(4):
        writer.write(step, {"a": 0.1 * step})
    lines = path.read_bytes().splitlines(keepends=True)
    writer.truncate_after(last)
    assert path.read_bytes() == b"".join(lines[: last + 1])
    writer.write(last + 1, {})
    writer.close()
    assert [row["step"] for row in strict_lines(path)] == [*range(min(last + 1, 4)), last + 1]
    assert list(tmp_path.iterdir()) == [path]


def test_truncate_after_names_a_line_without_step(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"a": 1}\n')
    writer = JsonlWriter(path)
    with pytest.raises(UserError, match=r"metrics\.jsonl:2: no integer 'step'"):
        writer.truncate_after(1)
    writer.close()


def events(directory):
    """The events of a TensorBoard folder: records of length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(directory.glob("events.*")):
        data = file.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            found.append(Event.FromString(data[12 : 12 + length]))
            data = data[16 + length :]
    return found


def test_tensorboard_holds_the_finite_numbers(tmp_path):
    writer = TensorBoardWriter(tmp_path)
    writer.write(
        3, {"reward/mean": jnp.float32(0.5), "eval/easy/pass@1": 0.25, "a": np.nan, "b": "text"}
    )
    writer.close()
    values = {
        value.tag: (event.step, value.simple_value)
        for event in events(tmp_path)
        for value in event.summary.value
    }
    assert values == {"reward/mean": (3, 0.5), "eval/easy/pass_at_1": (3, 0.25)}


def test_tensorboard_marks_where_a_resumed_run_starts(tmp_path):
    writer = TensorBoardWriter(tmp_path, purge_step=11)
    writer.write(11, {"a": 1.0})
    writer.close()
    starts = [event.step for event in events(tmp_path) if event.HasField("session_log")]
    assert starts == [11]


def test_wandb_missing_is_one_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UserError, match="pip install wandb"):
        WandbWriter("project", "run", tmp_path)


def test_wandb_gets_the_numbers_and_continues_its_run(monkeypatch, tmp_path):
    calls = []
    run = types.SimpleNamespace(
        log=lambda values, step: calls.append((step, values)), finish=lambda: calls.append("finish")
    )
    fake = types.SimpleNamespace(init=lambda **settings: calls.append(settings) or run)
    fake.__spec__ = "present"  # what importlib.util.find_spec looks at
    monkeypatch.setitem(sys.modules, "wandb", fake)
    writer = WandbWriter("riskpo", "abc", tmp_path, {"seed": 1})
    writer.write(2, {"reward/mean": np.float32(0.5), "note": "text"})
    writer.close()
    assert (
        calls[0]["id"] == "abc"
        and calls[0]["resume"] == "allow"
        and calls[0]["config"] == {"seed": 1}
    )
    assert calls[1:] == [(2, {"reward/mean": 0.5}), "finish"]


def test_metric_writer_reaches_all(tmp_path):
    paths = [tmp_path / "a.jsonl", tmp_path / "b.jsonl"]
    writer = MetricWriter(*(JsonlWriter(path) for path in paths))
    writer.write(1, {"x": 2})
    writer.close()
    assert [read_jsonl(path) for path in paths] == [[{"step": 1, "x": 2}]] * 2
