"""The few lengths that arrays are padded to, so that one seen for the first time rarely compiles anew."""

from __future__ import annotations

from collections.abc import Sequence


def length_buckets(longest: int) -> tuple[int, ...]:
    """About eight lengths up to `longest`, ascending, each at most 1.5 times the one before.

    Multiples of 16 (of 128 from 1,024 on, which attention kernels want), but for `longest` itself.
    """
    multiple = 128 if longest >= 1024 else 16
    shares = (1 / 8, 3 / 16, 1 / 4, 3 / 8, 1 / 2, 3 / 4)
    rounded = {-int(-longest * share // multiple) * multiple for share in shares}
    return (*sorted(length for length in rounded if length < longest), longest)


def bucket_of(length: int, buckets: Sequence[int]) -> int:
    """The shortest bucket that holds `length`."""
    return next(bucket for bucket in buckets if bucket >= length)
