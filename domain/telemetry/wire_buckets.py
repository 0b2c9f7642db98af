"""The buckets of a histogram, read from the wire by compiled code; what is refused, or not plain, is odd."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import wire_fields
from domain.telemetry.compiling import inlined
from domain.telemetry.interning import Bytes, word
from domain.telemetry.wire import LENGTH, LONG, VARINT, field, varint
from domain.telemetry.wire_fields import Fields

MAX_COUNTS = 10_000
"""A histogram with more buckets is refused."""
MIN_SCALE, MAX_SCALE = -10, 20
EXPLICIT = 127  # the scale of a bucket that has bounds
_NOT_KEPT = 126
_OFFSET, _COUNTS = 1 << 3 | VARINT, 2 << 3 | LENGTH  # the tags of the fields of an exponential range
_MOST = np.uint64(2**62)
_INFINITE = np.uint64(0x7FF0000000000000)


class Buckets(NamedTuple):
    """Buckets with observations: of which data point, how many, and between which bounds.

    With a `scale` that is not EXPLICIT `lower` is the index of the bucket at that scale.
    """

    point: NDArray[np.int32]
    counts: NDArray[np.int64]
    lower: NDArray[np.float64]
    upper: NDArray[np.float64]
    scale: NDArray[np.int8]


class Kept(NamedTuple):
    """Room for buckets; `size` tells how many there are, also where there is not room for all of them."""

    buckets: Buckets
    size: NDArray[np.int64]


def room(size: int) -> Kept:
    """For so many."""
    buckets = Buckets(
        point=np.empty(size, np.int32),
        counts=np.empty(size, np.int64),
        lower=np.empty(size),
        upper=np.empty(size),
        scale=np.empty(size, np.int8),
    )
    return Kept(buckets, np.zeros(1, np.int64))


def concat(many: Sequence[Buckets]) -> Buckets:
    """A copy of all, one after the other."""
    return Buckets(
        point=np.concatenate([one.point for one in many]),
        counts=np.concatenate([one.counts for one in many]),
        lower=np.concatenate([one.lower for one in many]),
        upper=np.concatenate([one.upper for one in many]),
        scale=np.concatenate([one.scale for one in many]),
    )


def take(buckets: Buckets, which: NDArray[np.bool_] | slice) -> Buckets:
    """Some of them: the same bytes for a slice, copied for a mask."""
    return Buckets(
        point=buckets.point[which],
        counts=buckets.counts[which],
        lower=buckets.lower[which],
        upper=buckets.upper[which],
        scale=buckets.scale[which],
    )


@inlined
def explicit(body: Bytes, fields: Fields, kept: Kept, i: int) -> bool:
    """Keep the buckets of histogram i if its bounds rise and its counts, none below zero, add up."""
    count = np.int64(fields.words[wire_fields.COUNT])
    counts, bounds = fields.begins[wire_fields.COUNTS], fields.begins[wire_fields.BOUNDS]
    n, last = fields.ends[wire_fields.COUNTS] - counts, fields.ends[wire_fields.BOUNDS] - bounds
    if n == 0 and last == 0:
        return True
    if n != last + 8 or n % 8 != 0 or n > 8 * MAX_COUNTS:
        return False
    lower, total = -np.inf, np.int64(0)
    for place in range(0, n, 8):
        fields.words[wire_fields.STRANGE] = word(body, bounds + place) if place < last else _INFINITE
        upper = fields.doubles[wire_fields.STRANGE]
        here = word(body, counts + place)
        if not lower < upper or (upper == np.inf and place < last) or here > _MOST:
            return False
        total += np.int64(here)
        if total > count or (upper < 0 and here != np.uint64(0)):
            return False
        if here != np.uint64(0) and last != 0:
            _keep(kept, i, here, lower, upper, EXPLICIT)
        lower = upper
    return bool(total == count)


@inlined
def exponential(body: Bytes, fields: Fields, kept: Kept, i: int) -> bool:
    """Keep the buckets of exponential histogram i if none is negative and they add up to its count."""
    count, zeros = fields.words[wire_fields.COUNT], fields.words[wire_fields.ZEROS]
    scale = _signed(fields.words[wire_fields.SCALE])
    if zeros > count or scale < MIN_SCALE or scale > MAX_SCALE:
        return False
    if zeros != np.uint64(0):
        _keep(kept, i, zeros, -np.inf, 0.0, EXPLICIT)
    above = _range(body, fields, wire_fields.POSITIVE, kept, i, scale)
    below = _range(body, fields, wire_fields.NEGATIVE, kept, i, _NOT_KEPT)
    return bool(below == 0 and above == np.int64(count - zeros))


@inlined
def _range(body: Bytes, fields: Fields, role: int, kept: Kept, i: int, scale: int) -> np.int64:
    """Keep a range of exponential buckets; how many observations they have, or -1 if that is odd."""
    at, end = fields.begins[role], fields.ends[role]
    offset, counts, stop = np.int64(0), np.int64(0), np.int64(0)
    while at < end:
        tag, value, begin, at = field(body, at, end)
        if at < 0 or (tag != _OFFSET and (tag != _COUNTS or counts != 0)):
            return np.int64(-1)
        if tag == _OFFSET:
            offset = _signed(value)
        else:
            counts, stop = begin, at
    n, total = 0, np.int64(0)
    while counts < stop:
        value, counts = varint(body, counts, stop, LONG)
        if counts < 0 or value > _MOST or total + np.int64(value) > np.int64(_MOST):
            return np.int64(-1)
        total += np.int64(value)
        if value != np.uint64(0) and scale != _NOT_KEPT:
            _keep(kept, i, value, np.float64(offset + n), 0.0, scale)
        n += 1
    return total if n <= MAX_COUNTS else np.int64(-1)


@inlined
def _signed(value: np.uint64) -> np.int64:
    """What a sint32 stands for."""
    low = value & np.uint64(2**32 - 1)
    return np.int64(low >> np.uint64(1)) ^ -np.int64(low & np.uint64(1))


@inlined
def _keep(kept: Kept, i: int, count: np.uint64, lower: float, upper: float, scale: int) -> None:
    place, buckets = kept.size[0], kept.buckets
    kept.size[0] += 1
    if place < len(buckets.counts):
        buckets.point[place], buckets.counts[place] = i, np.int64(count)
        buckets.lower[place], buckets.upper[place], buckets.scale[place] = lower, upper, scale
