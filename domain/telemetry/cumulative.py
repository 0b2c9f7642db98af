"""Increases a minute of running totals, from readings that come late, twice and in any order.

Whatever the order and the batches in which readings of the last `horizon_s` come, the increases end the same.
"""

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import packing, sketches
from domain.telemetry.packing import CorruptBytes
from domain.telemetry.sketches import Sketches

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

YOUNG_S = 300
"""A run that began so long before the end of the minute of its first reading began in sight."""
MAX_RUNS = 100
"""Of a series so many are remembered, those that began last: a sender that makes up starts fills no disk."""
_MINUTE_S, _NS = 60, 1_000_000_000
_LAST_S = 2**33  # nanoseconds until then fit into 64 bits
_NEVER = np.iinfo(np.int64).min
_HEADER = struct.Struct("<BI")  # version, readings
_VERSION = 1


class CorruptReadings(CorruptBytes):
    """The bytes are no readings that this release can read."""


@dataclass(frozen=True, slots=True, eq=False)
class Readings:
    """N readings of running totals.

    Reading i is of the series `number[i]` (positive), was taken at `time[i]` in the minute that begins at
    epoch second `at[i]`, and tells `value[i]` and, of distributions, `count` and `sketches` since
    `start[i]`; times are nanoseconds since 1970, `start` is 0 where unknown. The readings of one number and
    start are a *run*.

    As `advance` gives them they rise by number, start and minute, with one reading of a run in a minute;
    those to be added may be in any order.
    """

    number: NDArray[np.int32]
    start: Ints
    at: Ints
    time: Ints
    value: NDArray[np.float64]
    count: Ints
    sketches: Sketches

    def __len__(self) -> int:
        return len(self.number)

    def take(self, rows: NDArray[np.integer] | Bools) -> "Readings":
        return Readings(
            self.number[rows],
            self.start[rows],
            self.at[rows],
            self.time[rows],
            self.value[rows],
            self.count[rows],
            sketches.take(self.sketches, rows),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Increases:
    """What came in a minute to the series `number[i]`, over all its runs, rising by number and minute.

    A row replaces what was said of that number and minute before. `late` readings were dropped: they are
    older than all that is remembered, and what they tell is in the increase of the next one.
    """

    number: NDArray[np.int32]
    at: Ints
    value: NDArray[np.float64]
    count: Ints
    sketches: Sketches
    late: int

    def __len__(self) -> int:
        return len(self.number)


def advance(known: Readings, new: Readings, *, horizon_s: int) -> tuple[Readings, Increases]:
    """What to remember once `new` came to `known`, and the increases of all minutes that it touches.

    The increase of a reading is what it is above the one before it in its run. Where its value, its count
    or a bucket fell the total was reset, and the reading counts in full. So does the first reading of a run
    that began in sight: since the first minute in which the series is remembered, or young (YOUNG_S). The
    first of another run is what the next one is counted from, and adds nothing.

    Readings are remembered for `horizon_s` before the newest of their series, which must be the same in
    every call, and the last ones before that, from which others are counted. Of two readings of a run in a
    minute the one taken later stays; of two taken at once that which came later.
    """
    is_late = new.at <= _settled_of(new.number, known, horizon_s)
    merged, is_new = _merged(known, new.take(~is_late))
    settled = _settled_of(merged.number, known, horizon_s)
    increases = _increases(merged, _counted(merged, is_new, settled), late=int(is_late.sum()))
    return _remembered(merged, _settled(merged, horizon_s)), increases


def none() -> Readings:
    """No readings."""
    nothing = np.zeros(0, np.int64)
    return Readings(
        nothing.astype(np.int32), nothing, nothing, nothing, np.zeros(0), nothing, sketches.none(0)
    )


def encode(readings: Readings) -> bytes:
    """For `decode`, readings as `advance` gives them. To be compressed by the caller."""
    columns = (
        # Never all the same, so that each reading takes a byte.
        np.append(np.diff(readings.number.astype(np.int64), prepend=0), -1),
        np.diff(readings.start, prepend=0),
        np.diff(readings.at // _MINUTE_S, prepend=0),
        readings.time - readings.at * _NS,
        readings.value,
        readings.count,
    )
    parts = (packing.pack(column) for column in columns)
    return _HEADER.pack(_VERSION, len(readings)) + b"".join(parts) + sketches.encode(readings.sketches)


def decode(content: bytes) -> Readings:
    """What `encode` was given, exactly. Raises CorruptReadings."""
    if len(content) < _HEADER.size or content[0] != _VERSION:
        raise CorruptReadings("The readings have no header that is known.")
    try:
        return _read(content, _HEADER.unpack_from(content)[1])
    except CorruptBytes as error:
        raise CorruptReadings(f"The readings cannot be read: {error}") from error


def _settled(readings: Readings, horizon_s: int) -> Ints:
    """For each row the newest minute of its series that lies beyond the horizon, or _NEVER.

    Readings before it may have been forgotten, those in it are all remembered.
    """
    newest = _over_series(np.maximum, readings.number, readings.at)
    beyond = np.where(readings.at < newest - horizon_s, readings.at, _NEVER)
    return _over_series(np.maximum, readings.number, beyond)


def _settled_of(number: NDArray[np.int32], known: Readings, horizon_s: int) -> Ints:
    """The settled minute of the series of each number."""
    if not len(known):
        return np.full(len(number), _NEVER)
    row = np.searchsorted(known.number, number).clip(max=len(known) - 1)
    return np.where(known.number[row] == number, _settled(known, horizon_s)[row], _NEVER)


def _merged(known: Readings, new: Readings) -> tuple[Readings, Bools]:
    """One reading of a run in a minute, in their order, and which of them are new."""
    both = _concat(known, new)
    order = np.lexsort((both.time, both.at, both.start, both.number))
    is_first = _differs(both.number[order], both.start[order], both.at[order])
    rows = order[np.append(is_first, True)[1:]]
    return both.take(rows), rows >= len(known)


def _counted(merged: Readings, is_new: Bools, settled: Ints) -> Ints:
    """The rows that make up the increases of all minutes that the new readings may change."""
    is_first = _differs(merged.number, merged.start)
    is_next = ~is_first & np.append(False, is_new)[:-1]
    # An older reading brings runs into sight whose first readings were known before.
    may_come_in_sight = is_first & _over_series(np.logical_or, merged.number, is_new)
    has_increase = (merged.at > settled) & (~is_first | _began_in_sight(merged, settled))
    minute = _minute(merged)
    return np.flatnonzero(has_increase & np.isin(minute, minute[is_new | is_next | may_come_in_sight]))


def _began_in_sight(merged: Readings, settled: Ints) -> Bools:
    """Whether nothing of the run, if its start is true, was counted or forgotten before."""
    seen_since = np.maximum(settled, _over_series(np.minimum, merged.number, merged.at))
    young_since = merged.at + _MINUTE_S - YOUNG_S
    is_in_sight: Bools = merged.start >= np.minimum(seen_since, young_since) * _NS
    return is_in_sight & (merged.start > 0)


def _increases(merged: Readings, rows: Ints, *, late: int) -> Increases:
    """What the rows add, summed up by series and minute."""
    minutes, group = np.unique(_minute(merged)[rows], return_inverse=True)
    value, count = np.zeros(len(minutes)), np.zeros(len(minutes), np.int64)
    added, is_whole = _added_to_sketches(merged, rows)
    np.add.at(value, group, merged.value[rows] - np.where(is_whole, 0, merged.value[rows - 1]))
    np.add.at(count, group, merged.count[rows] - np.where(is_whole, 0, merged.count[rows - 1]))
    return Increases(
        number=(minutes >> 32).astype(np.int32),
        at=(minutes & 0xFFFFFFFF) * _MINUTE_S,
        value=value,
        count=count,
        sketches=sketches.merge(added, group, len(minutes)),
        late=late,
    )


def _added_to_sketches(merged: Readings, rows: Ints) -> tuple[Sketches, Bools]:
    """What each row adds to the distribution, and which rows count in full."""
    is_whole = _differs(merged.number, merged.start)[rows]
    is_whole |= merged.value[rows] < merged.value[rows - 1]
    is_whole |= merged.count[rows] < merged.count[rows - 1]
    with_none = sketches.concat([merged.sketches, sketches.none(1)])
    before = sketches.take(with_none, np.where(is_whole, len(merged), rows - 1))
    added, fell = sketches.subtract(sketches.take(merged.sketches, rows), before)
    return added, is_whole | fell


def _remembered(merged: Readings, settled: Ints) -> Readings:
    """Without those that no increase will be counted from."""
    is_first = _differs(merged.number, merged.start)
    is_counted_from = np.append(~is_first & (merged.at > settled), False)[1:]
    run = np.cumsum(is_first)
    is_recent = run > _over_series(np.maximum, merged.number, run) - MAX_RUNS
    return merged.take(((merged.at >= settled) | is_counted_from) & is_recent)


def _minute(readings: Readings) -> Ints:
    """Number and minute in one."""
    return (readings.number.astype(np.int64) << 32) + readings.at // _MINUTE_S


def _differs(*columns: NDArray[np.generic]) -> Bools:
    """Which rows differ from the one before; the first does."""
    differs = np.ones(len(columns[0]), bool)
    differs[1:] = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    return differs


def _over_series(reduce: np.ufunc, number: NDArray[np.int32], values: NDArray[np.generic]) -> NDArray[Any]:
    """For each row the reduction of the values of its series; equal numbers stand together."""
    starts = np.flatnonzero(_differs(number))
    return np.repeat(reduce.reduceat(values, starts), np.diff(np.append(starts, len(number))))


def _concat(known: Readings, new: Readings) -> Readings:
    return Readings(
        np.concatenate([known.number, new.number]),
        np.concatenate([known.start, new.start]),
        np.concatenate([known.at, new.at]),
        np.concatenate([known.time, new.time]),
        np.concatenate([known.value, new.value]),
        np.concatenate([known.count, new.count]),
        sketches.concat([known.sketches, new.sketches]),
    )


def _read(content: bytes, n: int) -> Readings:
    if n > len(content):
        raise CorruptBytes("There are fewer readings than promised.")
    steps, position = packing.unpack(content, _HEADER.size, n + 1)
    columns = [steps[:-1]]
    for _ in range(5):
        column, position = packing.unpack(content, position, n)
        columns.append(column)
    steps, starts, minutes, offsets, value, count = columns
    if any(column.dtype.kind != "i" for column in (steps, starts, minutes, offsets, count)):
        raise CorruptBytes("A column holds no whole numbers.")
    number, at = np.cumsum(steps, dtype=np.int64), np.cumsum(minutes, dtype=np.int64) * _MINUTE_S
    found = Readings(
        number=number.astype(np.int32),
        start=np.cumsum(starts, dtype=np.int64),
        at=at,
        time=offsets.astype(np.int64) + at * _NS,
        value=value.astype(np.float64),
        count=count.astype(np.int64),
        sketches=sketches.decode(content[position:], n),
    )
    _require_sound(found, number)
    return found


def _require_sound(readings: Readings, number: Ints) -> None:
    """What `Readings` says of those that are remembered; `number` as it was before it was shortened."""
    if ((number < 1) | (number > np.iinfo(np.int32).max)).any() or (readings.count < 0).any():
        raise CorruptBytes("A number is out of range.")
    if ((readings.at < 0) | (readings.at > _LAST_S)).any() or (readings.start < 0).any():
        raise CorruptBytes("A time is out of range.")
    if not np.isfinite(readings.value).all():
        raise CorruptBytes("A value is not finite.")
    order = np.lexsort((readings.at, readings.start, number))
    if (order != np.arange(len(order))).any() or not _differs(number, readings.start, readings.at).all():
        raise CorruptBytes("Readings are out of order.")
