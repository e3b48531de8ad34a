"""The stream of problems is a function of (seed, position)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.data.loader import Loader
from riskpo_jax.data.problem import Problem
from riskpo_jax.errors import UserError


def source(size):
    return [Problem(id=str(i), text="", answer="", dataset="") for i in range(size)]


def stream(loader, batches, position=0):
    taken = []
    for _ in range(batches):
        taken.extend(loader.indices(position).tolist())
        position += loader.batch_size
    return taken


sizes = st.integers(1, 12)


@settings(deadline=None, max_examples=50)
@given(size=sizes, batch_size=sizes, seed=st.integers(0, 9), stop=st.integers(0, 6))
def test_a_new_loader_continues_where_another_stopped(size, batch_size, seed, stop):
    whole = stream(Loader(source(size), batch_size, seed), 8)
    first = stream(Loader(source(size), batch_size, seed), stop)
    rest = stream(Loader(source(size), batch_size, seed), 8 - stop, position=stop * batch_size)
    assert first + rest == whole


@settings(deadline=None, max_examples=50)
@given(size=sizes, batch_size=sizes, seed=st.integers(0, 9))
def test_every_problem_once_an_epoch(size, batch_size, seed):
    taken = stream(Loader(source(size), batch_size, seed), 3 * size)
    for epoch in range(3 * batch_size):
        assert sorted(taken[epoch * size : (epoch + 1) * size]) == list(range(size))


@settings(deadline=None, max_examples=25)
@given(position=st.integers(0, 50), split=st.integers(1, 7))
def test_the_stream_does_not_depend_on_the_batch_size(position, split):
    whole = Loader(source(11), 8, seed=4).indices(position).tolist()
    head = Loader(source(11), split, seed=4).indices(position).tolist()
    assert whole[:split] == head


def test_epochs_and_seeds_differ():
    taken = stream(Loader(source(30), 30, seed=0), 2)
    assert taken[:30] != taken[30:]
    assert taken != stream(Loader(source(30), 30, seed=1), 2)


def test_batch_gives_the_problems_of_the_indices():
    loader = Loader(source(5), 3, seed=0)
    assert [int(p.id) for p in loader.batch(4)] == loader.indices(4).tolist()
    assert loader.indices(4).dtype == np.int64


def test_nothing_to_load():
    with pytest.raises(UserError, match="empty"):
        Loader([], 2, seed=0)
    with pytest.raises(UserError, match="batch of 0"):
        Loader(source(3), 0, seed=0)
