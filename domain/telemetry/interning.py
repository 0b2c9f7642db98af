"""Numbers for byte strings, found again inside compiled code: what was read before is not read twice.

A key is found by its hash and then compared byte by byte, so that no number is ever that of another key.
The table is bounded: when it is full it is emptied, and what it knew is learned again.
"""

import secrets
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic
from numpy.typing import NDArray

from domain.telemetry.compiling import compiled, inlined

MISSING = -1
MAX_SEGMENT = 32_767  # bytes; a key with a longer one is never kept
_MAX_PROBES = 64
_HEADER = 24  # bytes of a record before those of its key: value, tag, lengths of the segments

_built: Any = intrinsic

Bytes = NDArray[np.uint8]
Spans = NDArray[np.int64]


class Tables(NamedTuple):
    """What compiled code needs of an `Interned`: any thread may read it, also while keys are added."""

    hashes: NDArray[np.uint64]  # 0 where there is no record
    starts: NDArray[np.int64]  # of the record, in `records`
    records: Bytes
    secret: NDArray[np.uint64]  # the hash's, so that nobody can craft keys that collide


class Interned:
    """Values by key: at most `entries` keys, of at most `size` bytes together.

    A key is what lies in one to four segments of a body, and a `tag`: whatever else makes it that key.
    Segments are `spans`, int64: start, end, start, end …; they must lie within the body, for nothing
    checks it. Empty segments at the end are as none.
    """

    def __init__(self, *, entries: int = 1 << 17, size: int = 1 << 25) -> None:
        self._entries, self._size = entries, size
        self._lock = Lock()
        self._count, self._end = 0, 0
        self.tables = self._empty()

    def __len__(self) -> int:
        return self._count

    def get(self, body: Bytes, spans: Spans, *, tag: int = 0) -> int:
        """The value of a key, or MISSING."""
        return int(lookup(self.tables, body, spans, tag))

    def add(self, body: Bytes, spans: Spans, value: int, *, tag: int = 0) -> bool:
        """Keep `value` (not negative) for a key; True if the table had to be emptied for it.

        A key with a segment longer than MAX_SEGMENT, or that takes a quarter of the table, is not kept.
        """
        pairs = spans.reshape(-1, 2).tolist()
        key = b"".join([body[start:end].tobytes() for start, end in pairs])
        size = _HEADER + len(key)
        if size > self._size // 4 or max(end - start for start, end in pairs) > MAX_SEGMENT:
            return False
        with self._lock:
            place, digest = find(self.tables, body, spans, tag)
            is_full = place < 0 or self._count == self._entries or self._end + size > self._size
            if is_full:
                self.tables = self._empty()
                place, digest = find(self.tables, body, spans, tag)
            shape = sum((end - start) << 16 * i for i, (start, end) in enumerate(pairs))
            header = np.array([value, tag, shape], np.int64)
            self._write(header.tobytes() + key, place=place, digest=digest)
        return is_full

    def _write(self, record: bytes, *, place: int, digest: int) -> None:
        tables, end = self.tables, self._end + len(record)
        tables.records[self._end : end] = np.frombuffer(record, np.uint8)
        tables.starts[place] = self._end
        self._count += tables.hashes[place] == 0
        self._end = end
        tables.hashes[place] = digest  # the last, for those who read meanwhile

    def _empty(self) -> Tables:
        """Begin anew, in arrays of its own: who still reads the old ones is not disturbed."""
        places = 4 << (self._entries - 1).bit_length()
        self._count, self._end = 0, 0
        return Tables(
            hashes=np.zeros(places, np.uint64),
            starts=np.zeros(places, np.int64),
            records=np.zeros(self._size, np.uint8),  # which takes memory as it is written
            secret=np.frombuffer(secrets.token_bytes(32), np.uint64).copy(),
        )


@_built  # numba cannot load unaligned words
def word(_typing: Any, body: Any, at: Any) -> Any:
    """The 8 bytes of `body` from `at` on as uint64, little-endian; the caller knows that they are there."""

    def build(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = builder.gep(array.data, [arguments[1]])
        return builder.load(builder.bitcast(place, ir.IntType(64).as_pointer()), align=1)

    return types.uint64(body, types.int64), build


@_built  # nor multiply to 128 bits
def _folded(_typing: Any, _one: Any, _other: Any) -> Any:
    """The exclusive or of both halves of the product of two uint64: every bit depends on all of both."""

    def build(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        one, other = (builder.zext(argument, ir.IntType(128)) for argument in arguments)
        product = builder.mul(one, other)
        high = builder.lshr(product, ir.Constant(ir.IntType(128), 64))
        return builder.trunc(builder.xor(product, high), ir.IntType(64))

    return types.uint64(types.uint64, types.uint64), build


@inlined
def _tail(body: Bytes, at: int, end: int) -> np.uint64:
    """The fewer than 8 bytes from `at` to `end` as uint64."""
    if end >= 8:
        return np.uint64(word(body, end - 8) >> np.uint64(8 * (8 - end + at)))
    read = np.uint64(0)
    for i in range(at, end):
        read |= np.uint64(body[i]) << np.uint64(8 * (i - at))
    return read


@inlined
def _shape(spans: Spans) -> np.int64:
    """The lengths of the segments in one number, or MISSING if one is too long."""
    shape = np.int64(0)
    for i in range(len(spans) // 2):
        length = spans[2 * i + 1] - spans[2 * i]
        if length > MAX_SEGMENT:
            return np.int64(MISSING)
        shape |= length << (16 * i)
    return shape


@inlined
def _digest(secret: NDArray[np.uint64], body: Bytes, spans: Spans, tag: int) -> np.uint64:
    state = _folded(np.uint64(tag) ^ secret[0], np.uint64(_shape(spans)) ^ secret[1])
    for i in range(len(spans) // 2):
        at, end = spans[2 * i], spans[2 * i + 1]
        while at + 8 <= end:
            state = _folded(word(body, at) ^ secret[2], state ^ secret[3])
            at += 8
        if at < end:
            state = _folded(_tail(body, at, end) ^ secret[2], state ^ secret[3])
    return np.uint64(state | np.uint64(1))


@inlined
def _is_key(records: Bytes, start: int, body: Bytes, spans: Spans, tag: int) -> bool:
    if word(records, start + 8) != np.uint64(tag) or word(records, start + 16) != np.uint64(_shape(spans)):
        return False
    kept, differences = start + _HEADER, np.uint64(0)
    for i in range(len(spans) // 2):
        at, end = spans[2 * i], spans[2 * i + 1]
        for k in range((end - at) // 8):
            differences |= word(body, at + 8 * k) ^ word(records, kept + 8 * k)
        kept += end - at
        if (end - at) % 8:
            at = end - (end - at) % 8
            differences |= _tail(body, at, end) ^ _tail(records, kept - end + at, kept)
    return bool(differences == np.uint64(0))


@inlined
def find(tables: Tables, body: Bytes, spans: Spans, tag: int) -> tuple[np.int64, np.uint64]:
    """The place of a key, or where it may be put (MISSING: nowhere), and its hash."""
    hashes, starts, records = tables.hashes, tables.starts, tables.records
    digest = _digest(tables.secret, body, spans, tag)
    for step in range(_MAX_PROBES):
        place = np.int64((digest + np.uint64(step)) & np.uint64(len(hashes) - 1))
        if hashes[place] == np.uint64(0):
            return place, digest
        if hashes[place] == digest and _is_key(records, starts[place], body, spans, tag):
            return place, digest
    return np.int64(MISSING), digest


@compiled
def lookup(tables: Tables, body: Bytes, spans: Spans, tag: int) -> np.int64:
    """The value of a key, or MISSING: for compiled code. At most 64 places are looked at."""
    if _shape(spans) == MISSING:
        return np.int64(MISSING)
    place, _ = find(tables, body, spans, tag)
    if place == MISSING or tables.hashes[place] == np.uint64(0):
        return np.int64(MISSING)
    return np.int64(word(tables.records, tables.starts[place]))
