"""The few lengths that arrays are padded to, so that one seen for the first time rarely compiles anew."""

from __future__ import annotations

from collections.abc import Sequence


def length_buckets(longest: int) -> tuple[int, ...]:
    """Lengths up to `longest`, ascending: halves of it down to a 32nd, and the middles between them.

    Multiples of 16 (of 128 from 1,024 on, which attention kernels want), but for `longest` itself.
    """
    multiple = 128 if longest >= 1024 else 16
    halves = [longest / 2**k for k in range(6)]
    rounded = {
        -int(-size // multiple) * multiple for half in halves for size in (half, half * 3 / 4)
    }
    return (*sorted(length for length in rounded if length < longest), longest)


def bucket_of(length: int, buckets: Sequence[int]) -> int:
    """The shortest bucket that holds `length`."""
    return next(bucket for bucket in buckets if bucket >= length)
