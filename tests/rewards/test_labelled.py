"""Reading labelled pairs, and counting verdicts against labels."""

import json

import pytest

from riskpo_jax.errors import UserError
from riskpo_jax.rewards.labelled import count, read_pairs
from riskpo_jax.rewards.outcome import NO_ANSWER, verdict


def row(correct: bool, category: str = "a", **more) -> dict:
    pair = {"id": "minerva-3", "gold": "5", "response": "r"}
    return pair | {"correct": correct, "category": category} | more


def write(path, *rows):
    path.write_text("\n".join(map(json.dumps, rows)) + "\n\n")
    return path


def test_counts(tmp_path):
    rows = [row(True), row(True), row(True, "b"), row(False), row(False, "b"), row(False, "b")]
    pairs = read_pairs(write(tmp_path / "pairs.jsonl", *rows))
    outcomes = [verdict(True), verdict(False), NO_ANSWER, verdict(True), verdict(False), NO_ANSWER]
    counts = count(pairs, outcomes)
    assert list(counts) == ["a", "b", "all"]
    assert (counts["all"].precision, counts["all"].recall) == (0.5, pytest.approx(1 / 3))
    assert (counts["b"].precision, counts["b"].recall, counts["b"].total) == (1.0, 0.0, 3)
    assert "minerva-3" in counts["all"].false_positives[0]


def test_the_data_set_is_named_or_read_off_the_id(tmp_path):
    rows = [row(True), row(True, dataset="other"), row(True, unit="m")]
    pairs = read_pairs(write(tmp_path / "pairs.jsonl", *rows))
    assert [p.problem.dataset for p in pairs] == ["minerva", "other", "minerva"]
    assert pairs[2].problem.metadata == {"unit": "m"}


@pytest.mark.parametrize("bad", [{"id": "x"}, [], row("yes"), row(True) | {"gold": None}])
def test_a_bad_line_is_named(tmp_path, bad):
    path = write(tmp_path / "pairs.jsonl", row(True), bad)
    with pytest.raises(UserError, match=r"pairs.jsonl:2: no labelled pair"):
        read_pairs(path)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match="cannot read the pairs in .*none"):
        read_pairs(tmp_path / "none.jsonl")
