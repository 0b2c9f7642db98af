"""A batch of points as it waits in the log: columns, compressed, behind a versioned header.

The layout of a version never changes: rows written before an upgrade are folded after it.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import packing, sketches
from domain.telemetry.packing import CorruptBytes
from domain.telemetry.sketches import Sketches

_HEADER = struct.Struct("<3sB")  # magic, version
_SIZES = struct.Struct("<III")  # accounts, sources, rows
_MAGIC, _VERSION = b"VTC", 2
_LEVEL = 1
_MOST_ROWS = 10_000_000
_COLUMNS = {
    "account": "<i4",
    "source": "<i4",
    "number": "<i4",
    "at": "<i8",
    "value": "<f8",
    "count": "<i8",
    "mode": "|u1",
    "start": "<i8",
    "time": "<i8",
}


class CorruptBatch(ValueError):
    """The bytes are not a batch that this release can read."""


@dataclass(frozen=True, slots=True, eq=False)
class Columns:
    """Points, N rows in the order in which they apply.

    Row i says of the series `number[i]` of the account `accounts[account[i]]`, as the source numbered
    `sources[source[i]]` tells it, in the minute that begins at epoch second `at[i]`: `value[i]`. That is
    what adds up: for distributions the sum of `count` observations; `count` is 0 for all others. `mode` is
    a `Mode`. `start` and `time` are 0 but for CUMULATIVE: nanoseconds since 1970 at which the running
    total began (0 where unknown) and was read. `sketches` has N rows, empty but for distributions.
    """

    accounts: tuple[UUID, ...]
    sources: tuple[int, ...]
    account: NDArray[np.int32]
    source: NDArray[np.int32]
    number: NDArray[np.int32]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    mode: NDArray[np.uint8]
    start: NDArray[np.int64]
    time: NDArray[np.int64]
    sketches: Sketches

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: NDArray[np.int64]) -> "Columns":
        """Those rows, in that order."""
        parts = {name: getattr(self, name)[rows] for name in _COLUMNS}
        return Columns(self.accounts, self.sources, **parts, sketches=sketches.take(self.sketches, rows))


def concat(many: Sequence[Columns]) -> Columns:
    """The rows of all, one batch after the other."""
    accounts = {
        key: index for index, key in enumerate(dict.fromkeys(a for one in many for a in one.accounts))
    }
    sources = {key: index for index, key in enumerate(dict.fromkeys(s for one in many for s in one.sources))}
    parts = {name: np.concatenate([getattr(one, name) for one in many]) for name in _COLUMNS}
    parts["account"] = np.concatenate(
        [np.array([accounts[key] for key in one.accounts], np.int32)[one.account] for one in many]
    )
    parts["source"] = np.concatenate(
        [np.array([sources[key] for key in one.sources], np.int32)[one.source] for one in many]
    )
    found = sketches.concat([one.sketches for one in many])
    return Columns(tuple(accounts), tuple(sources), **parts, sketches=found)


def version(batch: bytes) -> int:
    """The version in which a batch is written. Raises CorruptBatch."""
    if len(batch) < _HEADER.size:
        raise CorruptBatch("The batch is shorter than its header.")
    magic, number = _HEADER.unpack_from(batch)
    if magic != _MAGIC:
        raise CorruptBatch(f"The batch begins with {magic!r}.")
    return int(number)


def encode(columns: Columns) -> bytes:
    """The batch in the newest version."""
    parts = [
        _SIZES.pack(len(columns.accounts), len(columns.sources), len(columns)),
        *(account.bytes for account in columns.accounts),
        np.array(columns.sources, "<i8").tobytes(),
        *(_column(getattr(columns, name), kind) for name, kind in _COLUMNS.items()),
        sketches.encode(columns.sketches),
    ]
    return _HEADER.pack(_MAGIC, _VERSION) + packing.compress(b"".join(parts), level=_LEVEL)


def decode(batch: bytes) -> Columns:
    """What `encode` was given, exactly. Raises CorruptBatch."""
    if version(batch) != _VERSION:
        raise CorruptBatch(f"Batches of version {version(batch)} cannot be read.")
    try:
        return _read(packing.decompress(batch[_HEADER.size :]))
    except (CorruptBytes, sketches.CorruptSketches, struct.error) as error:
        raise CorruptBatch(f"The batch cannot be read: {error}.") from error


def _column(values: NDArray[Any], kind: str) -> bytes:
    """The values behind a byte 0, or behind a byte 1 the one value that all of them are."""
    if len(values) and (values == values[0]).all() and not (kind == "<f8" and values[0] == 0):
        return b"\x01" + values[:1].astype(kind).tobytes()
    return b"\x00" + values.astype(kind).tobytes()


def _read(content: bytes) -> Columns:
    accounts, sources, rows = _SIZES.unpack_from(content)
    if rows > _MOST_ROWS:
        raise CorruptBytes(f"the batch promises {rows} rows")
    keys, position = _take(content, _SIZES.size, accounts, np.dtype("V16"))
    ids = tuple(UUID(bytes=key.tobytes()) for key in keys)
    numbers, position = _take(content, position, sources, np.dtype("<i8"))
    columns: dict[str, NDArray[Any]] = {}
    for name, kind in _COLUMNS.items():
        columns[name], position = _read_column(content, position, rows, np.dtype(kind))
    _require_references(columns["account"], accounts, "account")
    _require_references(columns["source"], sources, "source")
    found = sketches.decode(content[position:], rows)
    return Columns(ids, tuple(numbers.tolist()), **columns, sketches=found)


def _read_column(content: bytes, position: int, rows: int, kind: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    is_one = content[position : position + 1] == b"\x01"
    values, position = _take(content, position + 1, 1 if is_one else rows, kind)
    return np.broadcast_to(values, rows) if is_one else values, position


def _take(content: bytes, position: int, n: int, kind: np.dtype[Any]) -> tuple[NDArray[Any], int]:
    end = position + n * kind.itemsize
    if end > len(content):
        raise CorruptBytes("the batch ends too early")
    return np.frombuffer(content, kind, n, position), end


def _require_references(index: NDArray[Any], size: int, what: str) -> None:
    if len(index) and (index.min() < 0 or index.max() >= size):
        raise CorruptBytes(f"a row refers to no {what}")
