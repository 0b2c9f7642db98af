"""Blocks: what is known of a shard of an account's series in one window, a compressed column each.

The series with the numbers n × SHARD to (n + 1) × SHARD - 1 of an account are its shard n.
"""

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import packing, sketches
from domain.telemetry.packing import CorruptBytes
from domain.telemetry.sketches import Sketches

SHARD = 512
_HEADER = struct.Struct("<BH")  # version, cells
_VERSION, _LEVEL = 1, 1


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """N cells: cell i is of the series `number[i]`, in the block `block[i]`; rising by block and number.

    `value` is what adds up over windows and sources; `count` the observations behind it. In a minute's
    block `count` is 0 for what is not observed one by one; in a rollup it is then the minutes with data.
    """

    block: NDArray[np.int64]
    number: NDArray[np.int32]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    sketches: Sketches

    def __len__(self) -> int:
        return len(self.number)

    def placed(self, block: NDArray[np.int64]) -> "Cells":
        """The same cells in other blocks; they need not rise any more."""
        return Cells(block, self.number, self.value, self.count, self.sketches)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Cells":
        return Cells(
            self.block[rows],
            self.number[rows],
            self.value[rows],
            self.count[rows],
            sketches.take(self.sketches, rows),
        )


def has_any(found: Sketches) -> bool:
    """Whether any row has observations."""
    return len(found.index) > 0 or bool(found.zeros.any())


def counted(minutes: Cells) -> Cells:
    """Cells of minutes as rollups have them: what is not observed one by one was seen in one minute."""
    count = np.where(minutes.count > 0, minutes.count, 1)
    return Cells(minutes.block, minutes.number, minutes.value, count, minutes.sketches)


def encode(cells: Cells) -> list[bytes]:
    """A blob for each block that has cells, in their order."""
    if not len(cells):
        return []
    starts = np.flatnonzero(np.r_[True, cells.block[1:] != cells.block[:-1]])
    ends = np.r_[starts[1:], len(cells)]
    has_sketch = has_any(cells.sketches)
    offset = (cells.number % SHARD).astype(np.int64)
    return [
        _encode(cells, offset, start, end, has_sketch)
        for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
    ]


def _encode(cells: Cells, offset: NDArray[np.int64], start: int, end: int, has_sketch: bool) -> bytes:
    part = slice(start, end)
    parts = [
        _HEADER.pack(_VERSION, end - start),
        packing.pack(np.diff(offset[part], prepend=0)),
        packing.pack(cells.value[part]),
        packing.pack(cells.count[part]),
    ]
    if has_sketch:
        parts.append(sketches.encode(sketches.take(cells.sketches, np.arange(start, end))))
    return packing.compress(b"".join(parts), level=_LEVEL)


def decode(blobs: Sequence[bytes], shards: Sequence[int], *, with_sketches: bool = True) -> Cells:
    """The cells of blobs, of which `shards[i]` is the shard of `blobs[i]`: block i. Raises CorruptBytes.

    Without sketches, which take the most time, where they are not wanted.
    """
    pairs = enumerate(zip(blobs, shards, strict=True))
    return concat([_decode(blob, shard, block, with_sketches) for block, (blob, shard) in pairs])


def concat(many: Sequence[Cells]) -> Cells:
    """One after the other; their blocks keep their numbers."""
    if not many:
        return none()
    return Cells(
        np.concatenate([one.block for one in many]),
        np.concatenate([one.number for one in many]),
        np.concatenate([one.value for one in many]),
        np.concatenate([one.count for one in many]),
        sketches.concat([one.sketches for one in many]),
    )


def none() -> Cells:
    empty = np.zeros(0, np.int64)
    return Cells(empty, empty.astype(np.int32), empty.astype(np.float64), empty, sketches.none(0))


def _decode(blob: bytes, shard: int, block: int, with_sketches: bool = True) -> Cells:
    content = packing.decompress(blob)
    if len(content) < _HEADER.size or content[0] != _VERSION:
        raise CorruptBytes("A block has no header that is known.")
    _, n = _HEADER.unpack_from(content)
    steps, position = packing.unpack(content, _HEADER.size, n)
    value, position = packing.unpack(content, position, n)
    count, position = packing.unpack(content, position, n)
    has_sketches = with_sketches and position < len(content)
    found = sketches.decode(content[position:], n) if has_sketches else sketches.none(n)
    return Cells(
        np.full(n, block),
        (np.cumsum(steps) + shard * SHARD).astype(np.int32),
        value.astype(np.float64),
        count.astype(np.int64),
        found,
    )


def rows(blob: bytes, *, shard: int) -> Iterator[tuple[int, float, int]]:
    """Number, value and count of each cell."""
    cells = _decode(blob, shard, 0)
    yield from zip(cells.number.tolist(), cells.value.tolist(), cells.count.tolist(), strict=True)
