"""Plain values survive the way; nothing else comes out."""

import collections
import enum
import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from riskpo_jax.rewards import wire

ATOMS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**6000), 10**6000)  # more digits than JSON's parser would read
    | st.floats()
    | st.complex_numbers()
    | st.text()
    | st.characters(categories=["Cs"])  # lone surrogates
    | st.binary()
    | st.binary().map(bytearray)
    | st.sampled_from([range(3), range(5, 1, -2), int, str, list])
)
HASHABLE = st.integers() | st.text() | st.booleans() | st.floats() | st.tuples(st.integers())
VALUES = st.recursive(
    ATOMS | st.sets(HASHABLE) | st.frozensets(HASHABLE),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.lists(inner).map(collections.deque)
        | st.dictionaries(HASHABLE, inner)
    ),
    max_leaves=20,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
TAGS = [
    "list",
    "tuple",
    "set",
    "dict",
    "int",
    "float",
    "bytes",
    "range",
    "complex",
    "type",
    "handle",
]
TAGGED = st.recursive(
    JSON | st.tuples(st.sampled_from(TAGS), JSON).map(list),
    lambda inner: st.tuples(st.sampled_from(TAGS), st.lists(inner)).map(list),
    max_leaves=20,
)
PLAIN = {type(None), bool, int, float, complex, str, bytes, bytearray, list, tuple, dict, set}
PLAIN |= {frozenset, collections.deque, range, type}


def refuse(thing):
    raise AssertionError(f"{thing!r} is no plain value")


def travelled(value):
    message = wire.pack(wire.encode(value, refuse))
    assert int.from_bytes(message[:4], "big") == len(message) - 4
    return wire.decode(wire.unpack(message[4:]), refuse)


def alike(a, b):
    """Equal in type and value, all the way down; nan is alike nan, 0.0 is not alike -0.0."""
    if type(a) is not type(b):
        return False
    if isinstance(a, float):
        return (math.isnan(a) and math.isnan(b)) or (a, math.copysign(1, a)) == (
            b,
            math.copysign(1, b),
        )
    if isinstance(a, complex):
        return alike(a.real, b.real) and alike(a.imag, b.imag)
    if isinstance(a, list | tuple | collections.deque):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return alike(list(a), list(b)) and alike(list(a.values()), list(b.values()))
    if isinstance(a, set | frozenset):
        return sorted(map(repr, a)) == sorted(map(repr, b))
    return a == b


@given(VALUES)
def test_plain_values_survive(value):
    assert alike(travelled(value), value)


@given(JSON | TAGGED)
def test_whatever_comes_is_a_plain_value_or_refused(data):
    def only_plain(value):
        assert type(value) in PLAIN
        inner = [*value, *value.values()] if type(value) is dict else value
        if type(value) in (list, tuple, dict, set, frozenset, collections.deque):
            for item in inner:
                only_plain(item)

    try:
        value = wire.decode(data, lambda number: number)
    except wire.WireError:
        return
    only_plain(value)


@given(st.binary())
def test_whatever_bytes_come_are_json_or_refused(text):
    try:
        wire.unpack(text)
    except wire.WireError:
        pass


@pytest.mark.parametrize(
    "text", [b"[" * 10**6, b"9" * 10_000, b"NaN", b"[Infinity]", b"\xff", b"{", b'"\\ud800']
)
def test_bad_json_is_refused(text):
    with pytest.raises(wire.WireError):
        wire.unpack(text)


class Colour(enum.IntEnum):
    RED = 3


class Liar(int):
    def __eq__(self, other):
        return True

    __hash__ = int.__hash__

    def __add__(self, other):
        return 49

    def __index__(self):
        return 49


class LyingList(list):
    def __iter__(self):
        return iter([49])

    def __len__(self):
        return 49


class LyingText(str):
    def __str__(self):
        return "49"


Point = collections.namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (collections.Counter("aab"), {"a": 2, "b": 1}),
        (collections.OrderedDict(a=1), {"a": 1}),
        (collections.defaultdict(list, a=[1]), {"a": [1]}),
        (Point(1, 2), (1, 2)),
        (Colour.RED, 3),
        (Liar(5), 5),
        (LyingList([1, 2]), [1, 2]),
        (LyingText("no"), "no"),
        ([Liar(2)], [2]),
    ],
)
def test_a_subclass_travels_as_the_value_that_it_holds(value, plain):
    assert alike(travelled(value), plain)


@pytest.mark.parametrize("sign", [1, -1])
def test_integers_have_a_limit_on_both_sides(sign):
    value = sign << wire.MAX_BITS
    assert travelled(value // 2) == value // 2
    with pytest.raises(wire.WireError, match="bits"):
        wire.encode(value, refuse)
    with pytest.raises(wire.WireError, match="bits"):
        wire.decode(["int", hex(value) + "0" * 9], refuse)


def test_ranges_have_a_limit():
    assert travelled(range(wire.MAX_RANGE)) == range(wire.MAX_RANGE)
    for end in (wire.MAX_RANGE + 1, 10**30):
        with pytest.raises(wire.WireError):
            wire.decode(wire.encode(range(end), refuse), refuse)


def test_other_objects_travel_as_handles():
    things = [object(), len, Colour]
    numbers = wire.encode(things, things.index)
    assert json.loads(json.dumps(numbers)) == ["list", [["handle", i] for i in range(3)]]
    assert wire.decode(numbers, things.__getitem__) == things


def test_a_value_that_holds_itself_is_refused():
    ring = []
    ring.append(ring)
    with pytest.raises(wire.WireError, match="levels"):
        wire.encode(ring, refuse)
