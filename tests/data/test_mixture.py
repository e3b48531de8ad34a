"""Shares, their interleaving, and mixtures of which some problems are left out."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.data.mixture import RESOLUTION, Mixture, interleave, select, whole_shares
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError


def problems(name, size):
    return [Problem(f"{name}{i}", "", "", name) for i in range(size)]


def ids(source):
    return [source[i].id for i in range(len(source))]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(1, 60), min_size=1, max_size=7))
def test_every_prefix_follows_the_shares_to_less_than_one(shares):
    order = interleave(shares)
    counts = (order[:, None] == np.arange(len(shares))[None]).cumsum(axis=0)
    assert counts[-1].tolist() == shares
    due = np.outer(np.arange(1, len(order) + 1), shares)
    assert (abs(counts * sum(shares) - due) < sum(shares)).all()


def test_shares_are_the_smallest_whole_numbers():
    assert whole_shares([0.5, 0.3, 0.2]) == [5, 3, 2]
    assert whole_shares([0.1, 0.2]) == [1, 2]
    assert whole_shares([3.0]) == [1]
    assert whole_shares([1, 2.5]) == [2, 5]


@settings(deadline=None, max_examples=100)
@given(st.lists(st.floats(0.1, 10), min_size=1, max_size=6))
def test_shares_keep_the_ratio_of_the_weights(weights):
    shares = whole_shares(weights)
    assert sum(shares) <= RESOLUTION and min(shares) >= 0
    total = sum(Fraction(str(w)) for w in weights)
    for weight, share in zip(weights, shares, strict=True):
        error = abs(Fraction(share, sum(shares)) - Fraction(str(weight)) / total)
        assert error < Fraction(1, RESOLUTION)


def test_a_share_that_is_rounded_to_nothing_is_refused():
    with pytest.raises(UserError, match=r"--data.weights=1e-05,1.0: each must be at least 1/10000"):
        whole_shares([1e-5, 1.0])


def test_weights_that_cannot_be_are_refused_before_anything_is_drawn():
    with pytest.raises(UserError, match="--data.weights=1,1e-05: each must be at least 1/10000"):
        Mixture((problems("a", 1), problems("b", 1)), (1, 0.00001))


def test_the_parts_follow_each_other():
    mixture = Mixture((problems("a", 2), problems("b", 1), problems("c", 3)))
    assert ids(mixture) == ["a0", "a1", "b0", "c0", "c1", "c2"]
    for outside in (-1, 6):
        with pytest.raises(IndexError):
            mixture[outside]
    with pytest.raises(UserError, match="number 2 of --data.sets has no problems"):
        Mixture((problems("a", 2), []))


def test_what_is_selected_keeps_its_part_and_the_weights():
    parts = (problems("a", 3), problems("b", 2))
    weighted = select(Mixture(parts, (1.0, 9.0)), [0, 2, 4])
    assert isinstance(weighted, Mixture) and weighted.weights == (1.0, 9.0)
    assert [ids(part) for part in weighted.parts] == [["a0", "a2"], ["b1"]]
    again = select(weighted, [1, 2])
    assert [ids(part) for part in again.parts] == [["a2"], ["b1"]]
    assert ids(select(Mixture(parts), [0, 2, 4])) == ids(weighted)
    with pytest.raises(UserError, match="number 2 of --data.sets"):
        select(weighted, [0, 1])
