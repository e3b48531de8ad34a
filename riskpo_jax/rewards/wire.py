"""Plain values as bytes: what the trusted side and the sandbox say to each other.

A message is a length of four bytes and a JSON text. JSON has no tuples, sets or infinities, so that
everything but None, bool, str, finite floats and small integers is a pair [tag, content]. There is
nothing in a message that could be run, and reading one costs time and memory linear in its length.
The sandbox runs this file, too (its text is sent along), hence no import of this package.
"""

import collections
import json
import math

MAX_DEPTH = 64
MAX_BITS = 1 << 20  # of an integer, and
MAX_RANGE = 10_000_000  # of a range, so that tests cannot be made to compute with it for ever
_SMALL = 1 << 53
_TYPES = {
    kind.__name__: kind
    for kind in (int, str, float, bool, list, tuple, dict, set, frozenset, complex, bytes)
}


class WireError(ValueError):
    """The bytes are no message of this form, or exceed a limit."""


def encode(value, handle):
    """The JSON-ready form of a value.

    A subclass (Counter, IntEnum, a namedtuple, an int with an __eq__ of its own) travels as the
    builtin value that it holds, read with the builtin's methods. For any other object stands the
    integer that `handle(object)` returns. Raises WireError for a value too deep or that holds itself.
    """
    return _encode(value, handle, 0)


def _encode(value, handle, depth):
    if depth > MAX_DEPTH:
        raise WireError(f"more than {MAX_DEPTH} levels")
    if value is None or value is True or value is False:
        return value
    for base, write in _WRITERS:
        if isinstance(value, base):
            return write(value, lambda inner: _encode(inner, handle, depth + 1))
    if isinstance(value, type) and _TYPES.get(value.__name__) is value:
        return ["type", value.__name__]
    return ["handle", handle(value)]


def _write_int(value, _):
    value = int.__add__(value, 0)
    if value.bit_length() > MAX_BITS:
        raise WireError(f"an integer of more than {MAX_BITS} bits")
    return value if -_SMALL < value < _SMALL else ["int", hex(value)]


def _write_float(value, _):
    value = float.__add__(value, 0.0) if value else float.__float__(value)  # -0.0 + 0.0 is 0.0
    return value if math.isfinite(value) else ["float", repr(value)]


def _writer(tag, items):
    return lambda value, inner: [tag, [inner(item) for item in items(value)]]


def _write_dict(value, inner):
    return ["dict", [[inner(key), inner(item)] for key, item in dict.items(value)]]


_WRITERS = (
    (int, _write_int),
    (str, lambda value, _: str.__str__(value)),
    (float, _write_float),
    (list, _writer("list", list.__iter__)),
    (tuple, _writer("tuple", tuple.__iter__)),
    (dict, _write_dict),
    (set, _writer("set", set.__iter__)),
    (frozenset, _writer("frozenset", frozenset.__iter__)),
    (collections.deque, _writer("deque", collections.deque.__iter__)),
    (range, _writer("range", lambda value: (value.start, value.stop, value.step))),
    (complex, _writer("complex", lambda value: (complex(value).real, complex(value).imag))),
    (bytes, lambda value, _: ["bytes", bytes.hex(value)]),
    (bytearray, lambda value, _: ["bytearray", bytearray.hex(value)]),
)


def decode(data, handle):
    """The value that `encode` wrote, made of builtin types only, from JSON-ready data of any origin.

    `handle(integer)` makes what stands for an object. Raises WireError.
    """
    try:
        return _decode(data, handle, 0)
    except (
        TypeError,
        ValueError,
        KeyError,
        OverflowError,
    ) as error:  # an unhashable key, "0xg", 1e999
        raise WireError(str(error)[:100]) from None


def _decode(data, handle, depth):
    if depth > MAX_DEPTH:
        raise WireError(f"more than {MAX_DEPTH} levels")
    if data is None or type(data) in (bool, int, float, str):
        return data
    if type(data) is not list or len(data) != 2:
        raise WireError("neither a plain value nor a tag with its content")
    tag, content = data
    if type(tag) is not str:
        raise WireError("a tag that is no text")
    if tag == "handle" and type(content) is int:
        return handle(content)
    if tag in _TEXTS and type(content) is str:
        return _TEXTS[tag](content)
    if tag == "dict" and type(content) is list:
        return {
            _decode(key, handle, depth + 1): _decode(value, handle, depth + 1)
            for key, value in content
        }
    if tag in _COLLECTIONS and type(content) is list:
        return _COLLECTIONS[tag](_decode(item, handle, depth + 1) for item in content)
    raise WireError("an unknown tag")


def _bounded(text):
    if len(text) > MAX_BITS // 4 + 4:  # "-0x" and the digits
        raise WireError(f"an integer of more than {MAX_BITS} bits")
    return int(text, 16)


def _range(*items):
    found = range(*items)
    if len(found) > MAX_RANGE:
        raise WireError(f"a range of more than {MAX_RANGE} numbers")
    return found


_TEXTS = {
    "type": lambda name: _TYPES[name],
    "int": _bounded,
    "float": {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}.__getitem__,
    "bytes": bytes.fromhex,
    "bytearray": bytearray.fromhex,
}
_COLLECTIONS = {
    "list": list,
    "tuple": tuple,
    "set": lambda items: {item for item in items},  # item by item: a deadline can come between
    "frozenset": lambda items: frozenset({item for item in items}),
    "deque": collections.deque,
    "range": lambda items: _range(*items),
    "complex": lambda items: complex(*items),
}


def pack(data):
    """JSON-ready data as one message."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).encode("ascii")
    return len(text).to_bytes(4, "big") + text


def unpack(text):
    """JSON-ready data from the bytes after the length. Raises WireError."""
    try:
        return json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:  # bad UTF-8 and too many digits are ValueErrors
        raise WireError(f"no JSON: {str(error)[:100]}") from None


def _refuse(name):
    raise WireError(f"{name} is no JSON")
