"""Chunks: all that is known of a series in a day that is over, minute by minute, source by source."""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import packing, sketches
from domain.telemetry.blocks import has_any
from domain.telemetry.packing import CorruptBytes
from domain.telemetry.sketches import Sketches

_HEADER = struct.Struct("<BHI")  # version, sources, points
_VERSION, _LEVEL = 1, 6
_MOST_MINUTE = 24 * 60 - 1


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """N points: of the chunk `chunk[i]`, as the source numbered `source[i]` tells of the `minute[i]`-th of
    the day; rising by chunk, source and minute. `value` is what adds up, `count` the observations.
    """

    chunk: NDArray[np.int64]
    source: NDArray[np.int32]
    minute: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    sketches: Sketches

    def __len__(self) -> int:
        return len(self.minute)


def encode(points: Points) -> list[bytes]:
    """A blob for each chunk that has points, in their order."""
    if not len(points):
        return []
    starts = np.flatnonzero(np.r_[True, np.diff(points.chunk) != 0])
    ends = np.r_[starts[1:], len(points)]
    has_sketch = has_any(points.sketches)
    return [
        _encode(points, start, end, has_sketch)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _encode(points: Points, start: int, end: int, has_sketch: bool) -> bytes:
    part = slice(start, end)
    sources, sizes = np.unique(points.source[part], return_counts=True)
    parts = [
        _HEADER.pack(_VERSION, len(sources), end - start),
        packing.pack(sources),
        packing.pack(sizes),
        packing.pack(np.diff(points.minute[part], prepend=0)),
        packing.pack(points.value[part]),
        packing.pack(points.count[part]),
    ]
    if has_sketch:
        found = sketches.take(points.sketches, np.arange(start, end))
        if has_any(found):
            parts.append(sketches.encode(found))
    return packing.compress(b"".join(parts), level=_LEVEL)


def decode(blobs: Sequence[bytes], *, with_sketches: bool = True) -> Points:
    """The points of blobs, of which the i-th is chunk i. Raises CorruptBytes.

    Without sketches, which take the most time, where they are not wanted.
    """
    parts = [_decode(blob, chunk, with_sketches) for chunk, blob in enumerate(blobs)]
    if not parts:
        nothing = np.zeros(0, np.int64)
        return Points(
            nothing, nothing.astype(np.int32), nothing, nothing.astype(float), nothing, sketches.none(0)
        )
    arrays = {
        name: np.concatenate([getattr(one, name) for one in parts])
        for name in ("chunk", "source", "minute", "value", "count")
    }
    return Points(**arrays, sketches=sketches.concat([one.sketches for one in parts]))


def _decode(blob: bytes, chunk: int, with_sketches: bool = True) -> Points:
    content = packing.decompress(blob)
    if len(content) < _HEADER.size or content[0] != _VERSION:
        raise CorruptBytes("A chunk has no header that is known.")
    _, sources, n = _HEADER.unpack_from(content)
    if n > sources * (_MOST_MINUTE + 1):
        raise CorruptBytes("A chunk has more points than minutes.")
    source, position = packing.unpack(content, _HEADER.size, sources)
    sizes, position = packing.unpack(content, position, sources)
    if int(sizes.sum()) != n:
        raise CorruptBytes("The sources of a chunk do not have its points.")
    steps, position = packing.unpack(content, position, n)
    minute = np.cumsum(steps)
    if n and (minute.min() < 0 or minute.max() > _MOST_MINUTE):
        raise CorruptBytes("A chunk has a minute that its day has not.")
    value, position = packing.unpack(content, position, n)
    count, position = packing.unpack(content, position, n)
    has_sketches = with_sketches and position < len(content)
    found = sketches.decode(content[position:], n) if has_sketches else sketches.none(n)
    return Points(
        np.full(n, chunk),
        np.repeat(source.astype(np.int32), sizes.astype(np.int64)),
        minute.astype(np.int64),
        value.astype(np.float64),
        count.astype(np.int64),
        found,
    )


def rows(blob: bytes, *, day: date) -> Iterator[tuple[int, int, float, int]]:
    """Source, epoch second, value and count of each point."""
    found = _decode(blob, 0)
    at = midnight(day) + found.minute * 60
    yield from zip(
        found.source.tolist(), at.tolist(), found.value.tolist(), found.count.tolist(), strict=True
    )


def midnight(day: date) -> int:
    """The epoch second at which the day begins, UTC."""
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())
