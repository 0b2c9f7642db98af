"""Batches of version 1, in which keys are written out: read for as long as any may lie in a log.

header: "VTC", 1, keys (u4), rows (u4); then, compressed by zlib: keys of account, series and source
(16 bytes each), and per row its key (i4), the step of its epoch second (i8), value (f8), count (i8), mode
    (u1)
"""

import struct
import zlib
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from domain.telemetry import sketches
from domain.telemetry.columns import Columns, CorruptBatch

VERSION = 1
_HEADER = struct.Struct("<3sBII")
_KEY_BYTES = 48
_ROW = np.dtype("<i4"), np.dtype("<i8"), np.dtype("<f8"), np.dtype("<i8"), np.dtype("|u1")


@dataclass(frozen=True, slots=True, eq=False)
class OldColumns:
    """Keys of (account, series, source) ids, and columns of which `key[i]` is the key of row i."""

    keys: list[tuple[UUID, UUID, UUID]]
    key: NDArray[np.int32]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    mode: NDArray[np.uint8]


def decode(batch: bytes) -> OldColumns:
    """Raises CorruptBatch."""
    if len(batch) < _HEADER.size:
        raise CorruptBatch("The batch is shorter than its header.")
    _, _, keys, rows = _HEADER.unpack_from(batch)
    size = keys * _KEY_BYTES + rows * sum(kind.itemsize for kind in _ROW)
    inflater = zlib.decompressobj()
    try:
        content = inflater.decompress(batch[_HEADER.size :], size + 1)
    except zlib.error as error:
        raise CorruptBatch(f"The batch cannot be decompressed: {error}.") from error
    if len(content) != size or not inflater.eof:
        raise CorruptBatch(f"The batch does not have the {size} bytes its header promises.")
    ids = [UUID(bytes=content[at : at + 16]) for at in range(0, keys * _KEY_BYTES, 16)]
    columns: list[NDArray[Any]] = []
    position = keys * _KEY_BYTES
    for kind in _ROW:
        columns.append(np.frombuffer(content, kind, rows, position))
        position += rows * kind.itemsize
    key, steps, value, count, mode = columns
    if rows and (key.min() < 0 or key.max() >= keys):
        raise CorruptBatch("A row of the batch refers to no key.")
    triples = [(ids[at], ids[at + 1], ids[at + 2]) for at in range(0, len(ids), 3)]
    return OldColumns(triples, key, np.cumsum(steps), value, count, mode)


async def translate(connection: asyncpg.Connection, old: OldColumns) -> Columns:
    """The same by numbers; rows of series that are gone are left out."""
    series = await connection.fetch(
        "SELECT id, number FROM series WHERE id = ANY($1)", [key[1] for key in old.keys]
    )
    sources = await connection.fetch(
        "SELECT id, number FROM sources WHERE id = ANY($1)", [key[2] for key in old.keys]
    )
    number, source = dict(map(tuple, series)), dict(map(tuple, sources))
    accounts = {account: index for index, account in enumerate(dict.fromkeys(key[0] for key in old.keys))}
    names = {one: index for index, one in enumerate(dict.fromkeys(source.values()))}
    is_known = np.array([key[1] in number and key[2] in source for key in old.keys], bool)[old.key]
    key = old.key[is_known]
    nothing = np.zeros(len(key), np.int64)
    return Columns(
        accounts=tuple(accounts),
        sources=tuple(names),
        account=np.array([accounts[one[0]] for one in old.keys], np.int32)[key],
        source=np.array([names.get(source.get(one[2], -1), 0) for one in old.keys], np.int32)[key],
        number=np.array([number.get(one[1], 0) for one in old.keys], np.int32)[key],
        at=old.at[is_known],
        value=old.value[is_known],
        count=old.count[is_known],
        mode=old.mode[is_known],
        start=nothing,
        time=nothing,
        sketches=sketches.none(len(key)),
    )
