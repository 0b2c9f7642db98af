"""What is sent: requests in the order of event time, each of a bounded size."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

import msgspec

POINTS = "/v1/points"
MINUTE = timedelta(minutes=1)
MOST_POINTS = 5_000
MOST_BYTES = 4_000_000
"""Half of what the ingest takes, and enough that a request's own cost does not show."""


class Written(NamedTuple):
    """One point as an NDJSON line; `at` is its minute in UTC, `line` the file's that it came from, if any."""

    at: datetime
    text: bytes
    line: int = 0


@dataclass(frozen=True)
class Parcel:
    """One request. Live traffic would send it at `due`; `lines` are the file's, one a line of the body."""

    due: datetime
    path: str
    body: bytes
    size: int
    lines: Sequence[int] = ()
    params: Mapping[str, str] = field(default_factory=dict)


def point(
    *,
    account: str,
    metric: str,
    at: datetime,
    value: float,
    labels: Mapping[str, str],
    source: str,
    count: int | None = None,
) -> bytes:
    """The point as the ingest takes it, without the line's end."""
    whole = int(value) if value.is_integer() else value
    written = {"account": account, "metric": metric, "at": f"{at.astimezone(UTC):%FT%TZ}", "value": whole}
    more = {} if count is None else {"count": count}
    return msgspec.json.encode({**written, "labels": labels, "source": source, **more})


def packed(
    points: Iterable[Written], *, span: timedelta | None, params: Mapping[str, str] | None = None
) -> Iterator[Parcel]:
    """Requests of the points (in time order) of `span` each, or as full as may be where it is None.

    A request is due when its last minute is over.
    """
    batch: list[Written] = []
    size = 0
    for one in points:
        full = len(batch) >= MOST_POINTS or size + len(one.text) > MOST_BYTES
        if batch and (full or _slot(one.at, span) != _slot(batch[-1].at, span)):
            yield _parcel(batch, params or {})
            batch, size = [], 0
        batch.append(one)
        size += len(one.text) + 1
    if batch:
        yield _parcel(batch, params or {})


def _slot(at: datetime, span: timedelta | None) -> int:
    return int(at.timestamp() // span.total_seconds()) if span else 0


def _parcel(batch: Sequence[Written], params: Mapping[str, str]) -> Parcel:
    body = b"".join(one.text + b"\n" for one in batch)
    lines = tuple(one.line for one in batch if one.line)
    return Parcel(batch[-1].at + MINUTE, POINTS, body, len(batch), lines, params)
