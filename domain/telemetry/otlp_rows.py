"""From what data points say to rows that can be kept: each is checked, and put into our units and in order.

Rows that replace, and readings of running totals, stand in order of time, after all increments.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import otlp_sketches, points, sketches, slots, wire_buckets
from domain.telemetry.decoded import Decoded
from domain.telemetry.otlp_attributes import MAX_NEW, TOO_MANY, Refused
from domain.telemetry.otlp_points import Bucket, Reading
from domain.telemetry.otlp_streams import Streams
from domain.telemetry.points import (
    MAX_AHEAD_S,
    MAX_COUNT,
    MAX_READING,
    MalformedRequest,
    Mode,
    Point,
    Problem,
)
from domain.telemetry.sketches import Sketches
from domain.telemetry.slots import Slots
from domain.telemetry.wire_buckets import Buckets
from domain.telemetry.wire_points import EMPTY, PLAIN, Points

MAX_DATA_POINTS, MAX_BUCKETS = 100_000, 1 << 20
_MINUTE_NS = 60_000_000_000
_LAST = np.uint64(2**63 - 1)
_MOST = 2**62


@dataclass(slots=True, eq=False)
class Sent:
    """The data points of a body, of which the PLAIN ones are to be kept, and the numbers of their streams."""

    points: Points
    stream: NDArray[np.int32]
    buckets: list[Buckets] = field(default_factory=list)
    singles: list[tuple[int, Bucket]] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    read_singly: int = 0

    def count_single(self) -> None:
        """Before a point is read by itself; raises Refused where it is one too many."""
        self.read_singly += 1
        if self.read_singly > MAX_NEW:
            raise Refused(TOO_MANY)

    def put(self, i: int, slot: int, reading: Reading) -> None:
        """What point i says, where it was read by itself."""
        self.points.state[i], self.points.slot[i] = PLAIN, slot
        self.points.time[i], self.points.start[i] = reading.time, reading.start
        self.points.value[i], self.points.counts[i] = reading.value, min(reading.count, _MOST)
        if reading.count < _MOST:
            self.singles.extend((i, bucket) for bucket in reading.buckets)
        require_few(buckets=len(self.singles))

    def refuse(self, i: int, name: str, message: str) -> None:
        self.points.state[i] = EMPTY
        self.problems.append(Problem(i + 1, name, message))


def require_few(*, data_points: int = 0, buckets: int = 0) -> None:
    """So that no body can fill the memory. Raises MalformedRequest."""
    for count, most, what in (
        (data_points, MAX_DATA_POINTS, "data points"),
        (buckets, MAX_BUCKETS, "buckets of histograms"),
    ):
        if count > most:
            raise MalformedRequest(f"The body has more than {most} {what}: send it in parts.")


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The PLAIN points of a body, those numbered `point`; `count` is 0 for what is not observed."""

    point: NDArray[np.int64]
    stream: NDArray[np.int32]
    slot: NDArray[np.int32]
    source: NDArray[np.int32]
    mode: NDArray[np.uint8]
    time: NDArray[np.int64]
    start: NDArray[np.int64]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    flags: NDArray[np.uint8]


def decoded(sent: Sent, streams: Streams, known: Slots, *, at: datetime, oldest: datetime) -> Decoded:
    """The rows of a body that came `at`, none before `oldest`, and the problems of all other points."""
    bounds = {"oldest": int(oldest.timestamp()), "newest": int(at.timestamp()) + MAX_AHEAD_S}
    rows = _rows(sent, streams, known)
    unfit = np.flatnonzero(_is_unfit(rows, **bounds))
    for row in unfit.tolist():
        stream = streams.streams[rows.stream[row]]
        sent.refuse(int(rows.point[row]), stream.shown, _flaw(rows, row, metric=stream.metric, **bounds))
    if len(unfit):
        rows = _rows(sent, streams, known)
    conflicts = list(_conflicts(rows, len(known)))
    for row in conflicts:
        name = streams.streams[rows.stream[row]].shown
        sent.refuse(int(rows.point[row]), name, "has values of different shapes in one minute")
    return _ordered(sent, _rows(sent, streams, known) if conflicts else rows, streams)


def _rows(sent: Sent, streams: Streams, known: Slots) -> _Rows:
    point = np.flatnonzero(sent.points.state == PLAIN)
    which: NDArray[np.int64] | slice = point if len(point) < len(sent.stream) else slice(None)
    stream, slot, count = sent.stream[which], sent.points.slot[which], sent.points.counts[which]
    flags = known.flags(slot)
    is_value = ((flags & slots.DISTRIBUTION) != 0) & (count == 0)
    time = np.minimum(sent.points.time[which], _LAST).view(np.int64)
    with np.errstate(over="ignore", invalid="ignore"):
        value = sent.points.value[which] * streams.columns["factor"][stream]
    return _Rows(
        point=point,
        stream=stream,
        slot=slot,
        source=streams.columns["source"][stream],
        mode=streams.columns["mode"][stream],
        time=time,
        start=np.minimum(sent.points.start[which], _LAST).view(np.int64),
        at=time // _MINUTE_NS * 60,
        value=value,
        count=np.where(is_value, 1, count),
        flags=flags,
    )


def _is_unfit(rows: _Rows, *, oldest: int, newest: int) -> NDArray[np.bool_]:
    is_reading = rows.mode == Mode.CUMULATIVE
    is_untimely = (rows.time == 0) | (rows.at > newest) | (rows.at < oldest)
    is_early = is_reading & (rows.start > rows.time)
    most = np.where(is_reading, MAX_READING, MAX_COUNT)
    is_misfit = slots.misfits(rows.flags, rows.value, rows.count, most=most)
    unfit: NDArray[np.bool_] = is_misfit | is_untimely | is_early
    return unfit


def _flaw(rows: _Rows, row: int, *, metric: str, oldest: int, newest: int) -> str:
    """Why a row is unfit, as `points` says of one point."""
    if not rows.time[row]:
        return "has no time"
    count, value = int(rows.count[row]), float(rows.value[row])
    mode = Mode(int(rows.mode[row]))
    point = Point(account="", metric=metric, at=0, value=value / (count or 1), count=count or None, mode=mode)
    for flaw in (
        *points.value_flaws(point),
        *points.time_flaws(int(rows.at[row]), oldest=oldest, newest=newest),
    ):
        return " ".join(flaw)
    if rows.mode[row] == Mode.CUMULATIVE and rows.start[row] > rows.time[row]:
        return "has a start after its time"
    return f"value must not exceed {points.MAX_VALUE:g}"


def _conflicts(rows: _Rows, slots: int) -> Iterator[int]:
    """Rows whose mode, or having a count, differs from the first of the same series, source and minute."""
    shape = rows.mode * np.uint8(2) + (rows.count > 0)
    last = np.empty(slots, np.uint8)
    last[rows.slot] = shape
    mixed = rows.slot[last[rows.slot] != shape]
    if not len(mixed):
        return
    first: dict[tuple[int, int, int], int] = {}
    for row in np.flatnonzero(np.isin(rows.slot, mixed)).tolist():
        key = int(rows.slot[row]), int(rows.source[row]), int(rows.at[row])
        if first.setdefault(key, int(shape[row])) != shape[row]:
            yield row


def _ordered(sent: Sent, rows: _Rows, streams: Streams) -> Decoded:
    is_increment, is_reading = rows.mode == Mode.ADD, rows.mode == Mode.CUMULATIVE
    order: NDArray[np.int64] | slice = slice(None)
    if not is_increment.all():
        order = np.argsort(np.where(is_increment, 0, rows.time), kind="stable")
    source, sources = _named(rows.source, streams.sources)
    return Decoded(
        slot=rows.slot[order],
        source=source[order],
        sources=sources,
        at=rows.at[order],
        value=rows.value[order],
        count=rows.count[order],
        mode=rows.mode[order],
        start=np.where(is_reading, rows.start, 0)[order],
        time=np.where(is_reading, rows.time, 0)[order],
        number=(rows.point[order] + 1).astype(np.int32),
        sketches=_sketches(sent, rows, streams, order),
        problems=sorted(sent.problems, key=lambda problem: problem.number),
    )


def _sketches(sent: Sent, rows: _Rows, streams: Streams, order: NDArray[np.int64] | slice) -> Sketches:
    """Those of the rows in their order; where values are observations, of a value too."""
    n = len(rows.point)
    row_of = np.full(len(sent.stream), -1)
    row_of[rows.point[order]] = np.arange(n)
    buckets = otlp_sketches.joined(sent.buckets, sent.singles)
    is_kept = row_of[buckets.point] >= 0
    buckets = buckets if is_kept.all() else wire_buckets.take(buckets, is_kept)
    factor = streams.columns["factor"][sent.stream[buckets.point]]
    found = otlp_sketches.of_buckets(buckets, row_of[buckets.point], factor, n=n)
    observed = np.flatnonzero((rows.mode == Mode.REPLACE) & ((rows.flags & slots.DISTRIBUTION) != 0))
    if not len(observed):
        return found
    values = sketches.of_values(rows.value[observed], rows=row_of[rows.point[observed]], n=n)
    return sketches.add(found, values)


def _named(source: NDArray[np.int32], names: list[str]) -> tuple[NDArray[np.int32], tuple[str, ...]]:
    """Sources by their place in a tuple of those that there are."""
    is_used = np.zeros(len(names), np.bool_)
    is_used[source] = True
    used = np.flatnonzero(is_used)
    place = np.empty(len(names), np.int32)
    place[used] = np.arange(len(used), dtype=np.int32)
    return place[source], tuple(names[number] for number in used.tolist())
