"""The data points of an OTLP metrics request, read from the wire by compiled code; what is not plain is ODD.

A plain point says each thing once, in the usual encoding, and nothing of it is refused but for what its
value, count and time are. Of an ODD one only the generated classes tell what it is.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import interning, wire_buckets, wire_fields, wire_grammar
from domain.telemetry.compiling import compiled, inlined
from domain.telemetry.interning import Bytes, Tables
from domain.telemetry.wire_buckets import Kept
from domain.telemetry.wire_fields import Fields
from domain.telemetry.wire_grammar import EXPONENTIAL, GAUGE, HISTOGRAM, SUM
from domain.telemetry.wire_structure import (
    ATTRIBUTES,
    BEGIN,
    END,
    MALFORMED,
    METRIC,
    POINT_DEPTH,
    SHAPE,
    SOUND,
    Grammar,
    Structure,
    walk,
)

EMPTY, ODD, PLAIN = 0, 1, 2
_MOST = np.uint64(2**62)
_NO_VALUE = np.uint64(1)


class Points(NamedTuple):
    """Data points: nothing was measured (EMPTY), not read yet (ODD), or PLAIN.

    `slot` is MISSING where the attributes are not known. `time` and `start` are nanoseconds, `value` is
    the sum of a histogram, and `counts` are 0 for what is none.
    """

    state: NDArray[np.uint8]
    slot: NDArray[np.int32]
    time: NDArray[np.uint64]
    start: NDArray[np.uint64]
    value: NDArray[np.float64]
    counts: NDArray[np.int64]


class Room(NamedTuple):
    """What reading needs besides: for the walk, for the fields of a point, and for all buckets."""

    grammar: Grammar
    fields: Fields
    kept: Kept


def points(size: int) -> Points:
    """So many EMPTY ones."""
    return Points(
        state=np.full(size, EMPTY, np.uint8),
        slot=np.full(size, interning.MISSING, np.int32),
        time=np.zeros(size, np.uint64),
        start=np.zeros(size, np.uint64),
        value=np.zeros(size),
        counts=np.zeros(size, np.int64),
    )


@compiled
def read(
    body: Bytes, found: Structure, streams: NDArray[np.int32], tables: Tables, room: Room, points: Points
) -> int:
    """Read all data points of a structure: SOUND, or MALFORMED if one of them is.

    By the number of its metric's stream and its attributes `tables` know the slot of a point.
    """
    room.kept.size[0] = 0
    for i in range(len(points.state)):
        begin, end, metric = found.points[i, BEGIN], found.points[i, END], found.points[i, METRIC]
        shape = found.metrics[metric, SHAPE]
        message = wire_grammar.point_of(shape)
        seen = wire_fields.read(body, begin, end, message, room.fields)
        state = ODD
        if seen != 0:
            attributes = found.points[i, ATTRIBUTES:]
            attributes[0] = room.fields.begins[wire_fields.ATTRIBUTES]
            attributes[1] = room.fields.ends[wire_fields.ATTRIBUTES]
            points.slot[i] = interning.lookup(tables, body, attributes, streams[metric])
            state = _point(body, shape, seen, room, points, i)
        points.state[i] = state
        is_read = state == PLAIN and points.slot[i] != interning.MISSING
        if is_read and seen & 1 << wire_fields.UNREAD == 0:
            continue
        if walk(body, begin, end, message, POINT_DEPTH, room.grammar, found) != SOUND:
            return MALFORMED
    return SOUND


@inlined
def _point(body: Bytes, shape: int, seen: int, room: Room, points: Points, i: int) -> int:
    """Read point i from its fields: EMPTY, ODD or PLAIN."""
    words = room.fields.words
    points.time[i], points.start[i] = words[wire_fields.TIME], words[wire_fields.START]
    if words[wire_fields.FLAGS] & _NO_VALUE != np.uint64(0):
        return EMPTY
    if shape in (GAUGE, SUM):
        return int(_number(seen, room.fields, points, i))
    if shape in (HISTOGRAM, EXPONENTIAL):
        return int(_distribution(body, shape, seen, room, points, i))
    return PLAIN


@inlined
def _number(seen: int, fields: Fields, points: Points, i: int) -> int:
    is_double, is_int = seen & 1 << wire_fields.DOUBLE != 0, seen & 1 << wire_fields.INT != 0
    integer = np.int64(fields.words[wire_fields.INT])
    points.value[i] = fields.doubles[wire_fields.DOUBLE] if is_double else np.float64(integer)
    return PLAIN if is_double != is_int else ODD


@inlined
def _distribution(body: Bytes, shape: int, seen: int, room: Room, points: Points, i: int) -> int:
    fields, kept = room.fields, room.kept
    count, before = fields.words[wire_fields.COUNT], kept.size[0]
    if count == np.uint64(0):
        return EMPTY
    if count > _MOST or seen & 1 << wire_fields.SUM == 0:
        return ODD
    points.value[i], points.counts[i] = fields.doubles[wire_fields.SUM], np.int64(count)
    if shape == HISTOGRAM:
        is_sound = wire_buckets.explicit(body, fields, kept, i)
    else:
        is_sound = wire_buckets.exponential(body, fields, kept, i)
    if not is_sound:
        kept.size[0] = before
    return PLAIN if is_sound else ODD
