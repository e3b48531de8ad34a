"""How sets are written."""

import pytest

from riskpo_jax.data.named import NAMED
from riskpo_jax.data.specs import parse_spec
from riskpo_jax.errors import UserError


@pytest.mark.parametrize(
    ("text", "kind", "what", "reward"),
    [
        ("math500", "named", ("math500",), "math"),
        ("humaneval", "named", ("humaneval",), "code"),
        ("jsonl:data/a:b.jsonl", "jsonl", ("data/a:b.jsonl",), ""),
        ("tfds:math", "tfds", ("math",), "math"),
        ("tfds:gsm8k:test", "tfds", ("gsm8k", "test"), "math"),
        ("datasets:rows.parquet", "datasets", ("rows.parquet",), ""),
        ("datasets:openai/gsm8k:main:train", "datasets", ("openai/gsm8k", "main", "train"), ""),
        ("reasoning_gym:chain_sum", "reasoning_gym", ("chain_sum",), "reasoning_gym"),
        ("countdown", "countdown", (), "countdown"),
        ("countdown:hard", "countdown", ("hard",), "countdown"),
    ],
)
def test_what_is_written_is_what_is_meant(text, kind, what, reward):
    spec = parse_spec(text, "data.sets")
    assert (spec.kind, spec.what, spec.reward, str(spec)) == (kind, what, reward, text)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("jsonl:", "must be written jsonl:FILE"),
        ("jsonl", "must be written jsonl:FILE"),
        ("reasoning_gym", "must be written reasoning_gym:TASK"),
        ("countdown:huge", "must be written countdown.*, LEVEL one of easy, medium, hard"),
        ("datasets:a:b:c:d", "must be written datasets:WHERE"),
        ("datasets:a::c", "must be written datasets:WHERE"),
        ("tfds:mnist", "tfds has gsm8k and math"),
        ("maths500", "unknown data set 'maths500' .close: math500"),
        ("parquet:x", "unknown data set 'parquet:x'"),
        ("", "unknown data set ''"),
    ],
)
def test_what_is_not_a_set_is_refused_in_one_line(text, complaint):
    with pytest.raises(UserError, match=f"--eval.datasets: .*{complaint}") as caught:
        parse_spec(text, "eval.datasets")
    assert "\n" not in str(caught.value)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(UserError) as caught:
        parse_spec("xyz", "data.sets")
    assert all(name in str(caught.value) for name in NAMED)
