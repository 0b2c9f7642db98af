"""A batch of points as it waits in the log: columns, compressed, behind a versioned header.

The layout of a version never changes: rows written before an upgrade are folded after it.
"""

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from domain.telemetry.points import Point

_HEADER = struct.Struct("<3sBII")  # magic, version, keys, rows
_MAGIC, _VERSION = b"VTC", 1
_KEY_BYTES, _ROW_BYTES = 48, 29


class CorruptBatch(ValueError):
    """The bytes are not a batch that this release can read."""


class Key(NamedTuple):
    """Whose minutes a point belongs to."""

    account_id: UUID
    series_id: UUID
    source_id: UUID


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Row i says of `keys[key[i]]` in the minute that begins at epoch second `at[i]`: `value[i]`.

    `value` is what adds up: for distributions the sum of `count` observations; `count` is 0 for
    all others. `mode` is a `Mode`. All arrays are 1-D and equally long; rows keep their order.
    """

    keys: tuple[Key, ...]
    key: NDArray[np.int32]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    mode: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.key)


def gather(points: Sequence[Point], keys: Sequence[Key]) -> Columns:
    """Columns of points, of which `keys[i]` is that of `points[i]`."""
    distinct = {key: index for index, key in enumerate(dict.fromkeys(keys))}
    pairs = list(zip(points, keys, strict=True))
    return Columns(
        keys=tuple(distinct),
        key=np.array([distinct[key] for _, key in pairs], np.int32),
        at=np.array([point.at for point in points], np.int64),
        value=np.array([point.total for point in points], np.float64),
        count=np.array([point.count or 0 for point in points], np.int64),
        mode=np.array([point.mode for point in points], np.uint8),
    )


def encode(columns: Columns) -> bytes:
    """The batch in the newest version; times are written as differences, which compress well."""
    table = b"".join(part.bytes for key in columns.keys for part in key)
    steps = np.diff(columns.at, prepend=np.int64(0))
    parts = (
        table,
        columns.key.astype("<i4").tobytes(),
        steps.astype("<i8").tobytes(),
        columns.value.astype("<f8").tobytes(),
        columns.count.astype("<i8").tobytes(),
        columns.mode.tobytes(),
    )
    header = _HEADER.pack(_MAGIC, _VERSION, len(columns.keys), len(columns))
    return header + zlib.compress(b"".join(parts), level=1)


def decode(batch: bytes) -> Columns:
    """What `encode` was given, exactly. Raises CorruptBatch."""
    keys, rows, content = _unpack(batch)
    table = [UUID(bytes=content[at : at + 16]) for at in range(0, keys * _KEY_BYTES, 16)]
    ends = np.cumsum([keys * _KEY_BYTES, rows * 4, rows * 8, rows * 8, rows * 8]).tolist()
    key = np.frombuffer(content, "<i4", rows, ends[0])
    if rows and (key.min() < 0 or key.max() >= keys):
        raise CorruptBatch("A row of the batch refers to no key.")
    return Columns(
        keys=tuple(Key(*table[i : i + 3]) for i in range(0, len(table), 3)),
        key=key.astype(np.int32),
        at=np.cumsum(np.frombuffer(content, "<i8", rows, ends[1]), dtype=np.int64),
        value=np.frombuffer(content, "<f8", rows, ends[2]).astype(np.float64),
        count=np.frombuffer(content, "<i8", rows, ends[3]).astype(np.int64),
        mode=np.frombuffer(content, np.uint8, rows, ends[4]),
    )


def _unpack(batch: bytes) -> tuple[int, int, bytes]:
    """Numbers of keys and rows, and exactly the bytes that they take."""
    if len(batch) < _HEADER.size:
        raise CorruptBatch("The batch is shorter than its header.")
    magic, version, keys, rows = _HEADER.unpack_from(batch)
    if (magic, version) != (_MAGIC, _VERSION):
        raise CorruptBatch(f"Batches of version {version} ({magic!r}) cannot be read.")
    size = keys * _KEY_BYTES + rows * _ROW_BYTES
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(batch[_HEADER.size :], size + 1)
    except zlib.error as error:
        raise CorruptBatch(f"The batch cannot be decompressed: {error}.") from error
    if len(content) != size or not inflater.eof or inflater.unused_data:
        raise CorruptBatch(f"The batch does not have the {size} bytes its header promises.")
    return keys, rows, content
