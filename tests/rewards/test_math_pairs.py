"""The labelled pairs: the promise of precision and recall, on every file that is there."""

from pathlib import Path

import pytest

from riskpo_jax.rewards.labelled import count, read_pairs
from riskpo_jax.rewards.math import math_reward

FILES = sorted((Path(__file__).parent / "math_pairs").glob("*.jsonl"))


def test_there_are_pairs():
    assert "development.jsonl" in [file.name for file in FILES]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_precision_and_recall(file):
    pairs = read_pairs(file)
    labels = [pair.correct for pair in pairs]
    assert len(pairs) >= 100 and 0.2 < sum(labels) / len(labels) < 0.8
    counts = count(pairs, [math_reward(p.response, p.problem) for p in pairs])["all"]
    assert counts.total == len(pairs)
    assert counts.precision >= 0.995, counts.false_positives
    assert counts.recall >= 0.97, counts.false_negatives
