"""NDJSON, one point a line: all lines are taken or none, and each refusal names its line and field."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

import msgspec

from domain.telemetry import points
from domain.telemetry.points import MAX_AHEAD_S, MAX_POINTS, Point, PointsRejected, Problem

_EXPECTED = {
    "account": "must be text",
    "metric": "must be text",
    "at": "must be a time with its zone, such as 2026-11-23T10:01:00Z",
    "value": "must be a finite number",
    "labels": "must be an object of texts",
    "source": "must be text",
    "count": "must be a whole number",
}
_MISSING = re.compile(r"Object missing required field `(\w+)`")
_UNKNOWN = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_AT_FIELD = re.compile(r" - at `\$\.(\w+)")
_AT_BYTE = re.compile(r"(?:JSON is malformed: )?(.*) \(byte (\d+)\)")


class Line(msgspec.Struct, forbid_unknown_fields=True):
    """A line as it is written; `value` is the mean when `count` observations are behind it."""

    account: str
    metric: str
    at: Annotated[datetime, msgspec.Meta(tz=True)]
    value: float
    labels: dict[str, Any] = {}
    source: str = ""
    count: int | None = None


_decoder = msgspec.json.Decoder(Line)


def decode(body: bytes, *, at: datetime, oldest: datetime) -> list[Point]:
    """The points of a body in the order of its lines; blank lines are skipped.

    `at` is the present; points before `oldest` or more than 5 minutes ahead are refused, as are two
    lines for one series, source and minute. Raises PointsRejected with the problems of all lines.
    """
    _require_utf8(body)
    bounds = {"oldest": int(oldest.timestamp()), "newest": int(at.timestamp()) + MAX_AHEAD_S}
    taken: dict[object, Point] = {}
    problems: list[Problem] = []
    lines = 0
    for lines, (number, line) in enumerate(_lines(body), 1):
        if lines > MAX_POINTS:
            limit = f"is one too many: a request has at most {MAX_POINTS} points"
            problems.append(Problem(number, "", limit))
            break
        found = _read(line, number=number, bounds=bounds)
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


def _lines(body: bytes) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(body.split(b"\n"), 1):
        if line and not line.isspace():
            yield number, line


def _read(line: bytes, *, number: int, bounds: dict[str, int]) -> Point | list[Problem]:
    try:
        read = _decoder.decode(line)
    except (msgspec.DecodeError, RecursionError) as error:
        return [_explain(error, line=line, number=number)]
    nested = [key for key, value in read.labels.items() if type(value) is not str]
    if nested:
        return [Problem(number, f"labels.{key[:64]}", "must be text") for key in nested]
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
    flaws = list(points.flaws(point, **bounds))
    return [Problem(number, field, message) for field, message in flaws] or point


def _require_utf8(body: bytes) -> None:
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


def _explain(error: Exception, *, line: bytes, number: int) -> Problem:
    """The decoder's refusal in our words; its texts are held by the tests."""
    text = str(error)
    if unknown := _UNKNOWN.match(text):
        fields = ", ".join(_EXPECTED)
        return Problem(number, unknown[1][:64], f"is not a field; the fields are {fields}")
    if missing := _MISSING.match(text):
        return Problem(number, missing[1], "is missing")
    if field := _AT_FIELD.search(text):
        return Problem(number, field[1], _EXPECTED[field[1]])
    if isinstance(error, msgspec.ValidationError):
        return Problem(number, "", "must be a JSON object")
    if byte := _AT_BYTE.match(text):
        # The decoder counts from 0, but has already passed a character too many.
        offset = int(byte[2]) - (byte[1] == "trailing characters")
        column = len(line[:offset].decode(errors="replace")) + 1
        return Problem(number, "", f"is not JSON at column {column}: {byte[1]}")
    if isinstance(error, RecursionError):
        return Problem(number, "", "is nested too deeply")
    return Problem(number, "", "is not JSON: it ends too early, or in half a surrogate pair")
