"""NDJSON, one point a line: all lines are taken or none, and each refusal names its line and field.

Lines are decoded one by one, but for those whose meaning a scan of the body is sure of.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from io import BytesIO
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from domain.telemetry import ndjson_scan, points, refusals, slots, written
from domain.telemetry.decoded import Decoded
from domain.telemetry.interning import Interned
from domain.telemetry.ndjson_scan import ODD, PLAIN, Rows
from domain.telemetry.points import MAX_AHEAD_S, MAX_POINTS, Point, PointsRejected, Problem
from domain.telemetry.slots import Slots
from domain.telemetry.written import Written

_EXPECTED = {
    "account": "must be text",
    "metric": "must be text",
    "at": "must be a time with its zone, such as 2026-11-23T10:01:00Z",
    "value": "must be a finite number",
    "labels": "must be an object of texts",
    "source": "must be text",
    "count": "must be a whole number",
}


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line as it is written; `value` is the mean when `count` observations are behind it."""

    account: str
    metric: str
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    value: float
    labels: dict[str, Any] = {}
    source: str = ""
    count: int | None = None


class Bounds(NamedTuple):
    """The first and last minute that points may be of, as epoch seconds."""

    oldest: int
    newest: int


_line_decoder = msgspec.json.Decoder(Line)
_text_decoder = msgspec.json.Decoder(str)


class Decoder:
    """Decodes bodies into slots of `known`, and remembers by which texts they are called."""

    def __init__(self, known: Slots, *, texts: Interned | None = None) -> None:
        self._known = known
        self.texts = texts or Interned()

    def decode(self, body: bytes, *, at: datetime, oldest: datetime) -> Decoded:
        """The points of a body in the order of its lines; blank lines are skipped.

        `at` is the present; points before `oldest` or more than 5 minutes ahead are refused, as are two
        lines for one series, source and minute. Raises PointsRejected with the problems of all lines.
        """
        _require_utf8(body)
        bounds = _bounds(at=at, oldest=oldest)
        return self._scanned(body, bounds) or self._read(_read_all(body, bounds))

    def decode_line_by_line(self, body: bytes, *, at: datetime, oldest: datetime) -> Decoded:
        """The same without the scan: what it must agree with."""
        _require_utf8(body)
        return self._read(_read_all(body, _bounds(at=at, oldest=oldest)))

    def warm_up(self) -> None:
        """Compile, or load what was compiled: seconds that the first body need not take."""
        ndjson_scan.scan(self.texts.tables, np.frombuffer(b"\n", np.uint8), ndjson_scan.rows(1))

    def _read(self, found: list[Point]) -> Decoded:
        """Points that are known to be fit, as they are."""
        sources = _numbered(one.source for one in found)
        rows = Written(
            slot=np.array([self._known.slot(one.account, one.metric, one.labels) for one in found], np.int32),
            source=np.array([sources[one.source] for one in found], np.int32),
            at=np.array([one.at for one in found], np.int64),
            value=np.array([one.value for one in found], np.float64),
            count=np.array([one.count or 0 for one in found], np.int64),
            number=np.array([one.number for one in found], np.int32),
        )
        return written.decoded(rows, self._known.flags(rows.slot), sources=tuple(sources))

    def _scanned(self, body: bytes, bounds: Bounds) -> Decoded | None:
        """The points as the scan sees them, or None if anything is wrong, which then is to be named."""
        read = np.frombuffer(body, np.uint8)
        # A line that is not blank has a byte, and all but the last one another.
        found = ndjson_scan.rows(min(MAX_POINTS, len(body) // 2 + 1))
        size = ndjson_scan.scan(self.texts.tables, read, found)
        if size < 1:
            return None
        found = Rows._make(column[:size] for column in found)
        names = _source_names(body, found)
        if names is None or not self._complete(body, found, names, bounds):
            return None
        return self._fit(found, names, bounds)

    def _complete(self, body: bytes, found: Rows, names: dict[int, str], bounds: Bounds) -> bool:
        """Fill the rows that are not PLAIN from their decoded lines; False if one is refused."""
        for row in np.flatnonzero(found.state != PLAIN).tolist():
            begin, end = _place(found, row, ndjson_scan.LINE)
            point = _read_line(body[begin:end], number=int(found.number[row]), bounds=bounds)
            if not isinstance(point, Point):
                return False
            found.slot[row] = self._known.slot(point.account, point.metric, point.labels)
            found.at[row], found.value[row], found.observations[row] = point.at, point.value, point.count or 0
            if found.state[row] == ODD:
                found.source[row], names[row] = row, point.source
            else:
                # Their labels are whole: did the brace stand within a text, the quote that ends the text
                # would have had to begin the name of a field.
                spans = found.places[row, ndjson_scan.IDENTITY]
                self.texts.add(np.frombuffer(body, np.uint8), spans, int(found.slot[row]))
        for row in np.flatnonzero(np.isnan(found.value)).tolist():
            begin, end = _place(found, row, ndjson_scan.VALUE)
            found.value[row] = float(body[begin:end])
        return True

    def _fit(self, found: Rows, names: dict[int, str], bounds: Bounds) -> Decoded | None:
        """The rows, if all of them may be kept."""
        sources = _numbered(names[row] for row in sorted(names))
        place = np.empty(len(found.slot), np.int32)
        for row, name in names.items():
            place[row] = sources[name]
        flags = self._known.flags(found.slot)
        rows = Written(
            slot=found.slot,
            source=place[found.source],
            at=found.at,
            value=found.value,
            count=found.observations,
            number=found.number,
        )
        rows = written.observed(rows, flags)
        unfit = slots.misfits(flags, written.total(rows), rows.count)
        unfit |= (rows.at < bounds.oldest) | (rows.at > bounds.newest)
        if unfit.any() or written.is_repetitive(rows):
            return None
        return written.decoded(rows, flags, sources=tuple(sources))


def _bounds(*, at: datetime, oldest: datetime) -> Bounds:
    return Bounds(int(oldest.timestamp()), int(at.timestamp()) + MAX_AHEAD_S)


def _read_all(body: bytes, bounds: Bounds) -> list[Point]:
    """The points of a body, line by line. Raises PointsRejected with the problems of all lines."""
    taken: dict[object, Point] = {}
    problems: list[Problem] = []
    lines = 0
    for lines, (number, line) in enumerate(_lines(body), 1):
        if lines > MAX_POINTS:
            limit = f"is one too many: a request has at most {MAX_POINTS} points"
            problems.append(Problem(number, "", limit))
            break
        found = _read_line(line, number=number, bounds=bounds)
        if isinstance(found, Point):
            earlier = taken.setdefault(found.key, found)
            if earlier is not found:
                problems.append(_repeats(found, earlier))
        else:
            problems.extend(found)
    if not lines:
        problems.append(Problem(1, "", "must be a point: the body has none"))
    if problems:
        raise PointsRejected(problems)
    return list(taken.values())


def _read_line(line: bytes, *, number: int, bounds: Bounds) -> Point | list[Problem]:
    """The point of a line, or all that is wrong with it."""
    try:
        read = _line_decoder.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return [Problem(number, *refusals.explain(error, _EXPECTED, text=line))]
    nested = points.nested(read.labels)
    if nested:
        return [Problem(number, f"labels.{key[: refusals.MAX_NAME]}", "must be text") for key in nested]
    point = Point(
        account=read.account,
        metric=read.metric,
        at=points.minute(int(read.at.timestamp())),
        value=read.value,
        count=points.observations(read.metric, read.count),
        labels=points.labels(read.labels),
        source=read.source,
        number=number,
    )
    flaws = points.flaws(point, oldest=bounds.oldest, newest=bounds.newest)
    return [Problem(number, field, message) for field, message in flaws] or point


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(BytesIO(body), 1):
        if not line.isspace():
            yield number, line.removesuffix(b"\n")


def _require_utf8(body: bytes) -> None:
    if body.isascii():
        return
    try:
        body.decode()
    except UnicodeDecodeError as error:
        before = body[: error.start]
        column = len(before[before.rfind(b"\n") + 1 :].decode()) + 1
        problem = Problem(before.count(b"\n") + 1, "", f"is not UTF-8 at column {column}")
        raise PointsRejected([problem]) from None


def _repeats(point: Point, earlier: Point) -> Problem:
    message = f"has the same series, source and minute as line {earlier.number}"
    return Problem(point.number, "", message)


def _source_names(body: bytes, found: Rows) -> dict[int, str] | None:
    """The sources by the rows that stand for them, but for ODD rows; None if one is not fit."""
    own = (found.source == np.arange(len(found.source))) & (found.state != ODD)
    names = {}
    for row in np.flatnonzero(own).tolist():
        begin, end = _place(found, row, ndjson_scan.SOURCE)
        try:
            names[row] = _text_decoder.decode(b'"%b"' % body[begin:end])
        except msgspec.DecodeError:
            return None
    fit = not any(True for name in names.values() for _ in points.source_flaws(name))
    return names if fit else None


def _numbered(names: Iterable[str]) -> dict[str, int]:
    """The different ones, each with its place among them."""
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _place(found: Rows, row: int, field: int) -> tuple[int, int]:
    return int(found.places[row, field]), int(found.places[row, field + 1])
