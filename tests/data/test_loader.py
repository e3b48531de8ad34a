"""The stream of problems is a function of (seed, position)."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from riskpo_jax.data.loader import Loader
from riskpo_jax.data.mixture import Mixture, interleave, whole_shares
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


def test_the_order_is_that_of_earlier_runs():
    """What a run that is resumed by a newer version relies on."""
    assert Loader(source(7), 9, seed=3).indices(0).tolist() == [5, 6, 2, 1, 4, 3, 0, 2, 1]


# Mixtures with weights, against the stream written down one problem at a time.


def naive_stream(sizes, weights, seed, length):
    order = interleave(whole_shares(weights)).tolist()
    starts = np.cumsum([0, *sizes])

    def endless(part):
        for epoch in itertools.count():
            entropy = np.random.SeedSequence([seed, epoch, part + 1])
            yield from np.random.default_rng(entropy).permutation(sizes[part]) + starts[part]

    parts = [endless(part) for part in range(len(sizes))]
    return [int(next(parts[order[slot % len(order)]])) for slot in range(length)]


def mixture(sizes, weights):
    parts = tuple(source(size) for size in sizes)
    return Mixture(parts, tuple(weights))


mixtures = st.lists(
    st.tuples(st.integers(1, 9), st.sampled_from([0.1, 0.25, 1.0, 3.0, 7.5])),
    min_size=1,
    max_size=5,
)


@settings(deadline=None, max_examples=50)
@given(parts=mixtures, seed=st.integers(0, 9), batch=st.integers(1, 7), start=st.integers(0, 80))
def test_a_weighted_stream_is_the_naive_one_from_any_position(parts, seed, batch, start):
    sizes, weights = zip(*parts, strict=True)
    naive = naive_stream(sizes, weights, seed, start + 3 * batch)
    loader = Loader(mixture(sizes, weights), batch, seed)
    taken = [loader.indices(start + i * batch).tolist() for i in range(3)]
    assert sum(taken, []) == naive[start:]


@settings(deadline=None, max_examples=25)
@given(parts=mixtures, seed=st.integers(0, 9))
def test_each_part_has_epochs_of_its_own(parts, seed):
    sizes, weights = zip(*parts, strict=True)
    taken = Loader(mixture(sizes, weights), 400, seed).indices(0)
    starts = np.cumsum([0, *sizes])
    for start, size in zip(starts, sizes, strict=False):
        own = taken[(taken >= start) & (taken < start + size)].tolist()
        for epoch in range(len(own) // size):
            seen = own[epoch * size : (epoch + 1) * size]
            assert sorted(seen) == list(range(start, start + size))


def loaders():
    return {
        "single": lambda **more: Loader(source(11), 12, seed=5, **more),
        "weighted": lambda **more: Loader(mixture((3, 8), (1.0, 2.0)), 12, seed=5, **more),
    }


@pytest.mark.parametrize("kind", loaders())
@pytest.mark.parametrize("hosts", [1, 2, 3, 4, 6, 12])
def test_the_hosts_rows_in_their_order_are_the_whole_batch(kind, hosts):
    make = loaders()[kind]
    for position in (0, 7, 500):
        rows = [make(shard=(host, hosts)).indices(position) for host in range(hosts)]
        assert {len(r) for r in rows} == {12 // hosts}
        assert np.concatenate(rows).tolist() == make().indices(position).tolist()


@pytest.mark.parametrize("kind", loaders())
@pytest.mark.parametrize("workers", [1, 2, 4, 8])
def test_any_number_of_threads_reads_the_same_batches(kind, workers):
    make = loaders()[kind]
    positions = [12 * i for i in range(60)]
    expected = [make().indices(position).tolist() for position in positions]
    shared = make()
    with ThreadPoolExecutor(workers) as pool:
        for _ in range(3):
            assert [x.tolist() for x in pool.map(shared.indices, positions)] == expected


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 5)])
def test_a_batch_that_does_not_divide_over_the_hosts(shard):
    with pytest.raises(UserError, match="12 problems does not divide over"):
        Loader(source(11), 12, seed=5, shard=shard)
