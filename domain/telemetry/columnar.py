"""Points as columns of JSON, for series registered before: all points of a body are taken or none.

    {"source": "pod-3",
     "accounts": [{"account": "shop-1",
                   "series": [3, 3, 7],
                   "at": ["2026-11-24T10:01:00Z", 1795514520, 1795514460],
                   "value": [12, 13, 250.5],
                   "count": [0, 0, 4]}]}

Row i of an account is a point of its series `series[i]`, the number that registration returned; `at` are
epoch seconds or times with their zone, `value` the mean where `count` is above 0. `count` may be left out,
as may `source`, the sender of all.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate, chain
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from domain.telemetry import points, refusals, slots, written
from domain.telemetry.decoded import Decoded
from domain.telemetry.points import (
    MAX_AHEAD_S,
    MAX_COUNT,
    Flaw,
    Labels,
    MalformedRequest,
    Point,
    PointsRejected,
    Problem,
)
from domain.telemetry.slots import Slots
from domain.telemetry.written import Written

MAX_POINTS = 100_000
MAX_SERIES = 10_000
MAX_ACCOUNTS = 1_000
_MAX_NUMBER = 2**31 - 1
_MAX_SECONDS = 253_402_300_799  # the last of the year 9999; what is above are milliseconds

_EXPECTED = {
    "source": "must be text",
    "accounts": "must be a list of accounts",
    "accounts[]": "must be an object",
    "accounts[].account": "must be text",
    "accounts[].series": "must be a list of numbers of series",
    "accounts[].series[]": f"must be a whole number from 1 to {_MAX_NUMBER}",
    "accounts[].at": "must be a list of times",
    "accounts[].at[]": "must be epoch seconds or a time with its zone, such as 2026-11-23T10:01:00Z",
    "accounts[].value": "must be a list of numbers",
    "accounts[].value[]": "must be a finite number",
    "accounts[].count": "must be a list of whole numbers",
    "accounts[].count[]": f"must be a whole number from 0 (no observations) to {MAX_COUNT}",
}
_EXPECTED_SERIES = {
    "series": "must be a list of series",
    "series[]": "must be an object",
    "series[].account": "must be text",
    "series[].metric": "must be text",
    "series[].labels": "must be an object of texts",
}

Number = Annotated[int, msgspec.Meta(ge=1, le=_MAX_NUMBER)]
Seconds = Annotated[int, msgspec.Meta(ge=0, le=_MAX_SECONDS)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]
Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_COUNT)]
Read = TypeVar("Read")
SlotsOf = Callable[[str, NDArray[np.int32]], NDArray[np.int32]]


class Account(msgspec.Struct, forbid_unknown_fields=True):
    """The points of one account, column by column."""

    account: str
    series: list[Number]
    at: list[Seconds | Time]
    value: list[float]
    count: list[Count] | None = None


class Body(msgspec.Struct, forbid_unknown_fields=True):
    """A body as it is written."""

    accounts: list[Account]
    source: str = ""


class Series(msgspec.Struct, forbid_unknown_fields=True):
    """A series that is to have a number."""

    account: str
    metric: str
    labels: dict[str, Any] = {}


class Registration(msgspec.Struct, forbid_unknown_fields=True):
    """The body that registers series."""

    series: list[Series]


_body, _registration = msgspec.json.Decoder(Body), msgspec.json.Decoder(Registration)


@dataclass(frozen=True, slots=True, eq=False)
class Parsed:
    """N points before their series are known; those of `accounts[i]` end before row `ends[i]`.

    `at` are epoch seconds; `count` is 0 where there is none.
    """

    source: str
    accounts: tuple[str, ...]
    ends: tuple[int, ...]
    series: NDArray[np.int32]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]

    def field(self, row: int, name: str) -> str:
        """Where the body says it, such as `accounts[0].value[17]`."""
        account = int(np.searchsorted(self.ends, row, side="right"))
        begin = self.ends[account - 1] if account else 0
        return f"accounts[{account}].{name}[{row - begin}]"


def parse(body: bytes) -> Parsed:
    """The columns of a body. Raises MalformedRequest if it is not JSON, PointsRejected if not of the form."""
    read = _read(_body, body, _EXPECTED)
    if flaws := [*_shape_flaws(read)]:
        raise PointsRejected([Problem(1, field, message) for field, message in flaws])
    accounts = read.accounts
    ends = tuple(accumulate(len(one.series) for one in accounts))
    if ends[-1] > MAX_POINTS:
        limit = f"is one too many: a request has at most {MAX_POINTS} points"
        raise PointsRejected([Problem(MAX_POINTS + 1, "", limit)])
    return Parsed(
        source=read.source,
        accounts=tuple(one.account for one in accounts),
        ends=ends,
        series=_column((one.series for one in accounts), np.int32, ends[-1]),
        at=_times(accounts, ends[-1]),
        value=_column((one.value for one in accounts), np.float64, ends[-1]),
        count=_counts(accounts, ends),
    )


def decode(parsed: Parsed, slot_of: SlotsOf, known: Slots, *, at: datetime, oldest: datetime) -> Decoded:
    """The points by slot; `slot_of` says those of an account's numbers, -1 where it has no such series.

    `at` is the present; points before `oldest` or more than 5 minutes ahead are refused, as are two for
    one series and minute. Raises PointsRejected, its problems numbered by point, from 1.
    """
    bounds = {"oldest": int(oldest.timestamp()), "newest": int(at.timestamp()) + MAX_AHEAD_S}
    slot = _slots(parsed, slot_of)
    _require_known(parsed, slot)
    flags = known.flags(slot)
    rows = written.observed(
        Written(
            slot=slot,
            source=np.zeros(len(slot), np.int32),
            at=parsed.at - parsed.at % 60,
            value=parsed.value,
            count=parsed.count,
            number=np.arange(1, len(slot) + 1, dtype=np.int32),
        ),
        flags,
    )
    unfit = slots.misfits(flags, written.total(rows), rows.count)
    unfit |= (rows.at < bounds["oldest"]) | (rows.at > bounds["newest"])
    problems = [*_source_problems(parsed.source)]
    problems += _row_problems(parsed, rows, np.flatnonzero(unfit), known, bounds)
    if not problems and written.is_repetitive(rows):
        problems += _repetitions(parsed, rows)
    if problems:
        raise PointsRejected(problems)
    return written.decoded(rows, flags, sources=(parsed.source,))


def parse_series(body: bytes) -> list[tuple[str, str, Labels]]:
    """The series (account, metric, labels) of a registration, in its order.

    Raises MalformedRequest if the body is not JSON, PointsRejected with the problems of all series.
    """
    series = _read(_registration, body, _EXPECTED_SERIES).series
    if not series:
        raise PointsRejected([Problem(1, "series", "must not be empty")])
    if len(series) > MAX_SERIES:
        limit = f"must be at most {MAX_SERIES}"
        raise PointsRejected([Problem(MAX_SERIES + 1, "series", limit)])
    problems = [
        Problem(place + 1, f"series[{place}].{field}", message)
        for place, one in enumerate(series)
        for field, message in _series_flaws(one)
    ]
    if problems:
        raise PointsRejected(problems)
    return [(one.account, one.metric, points.labels(one.labels)) for one in series]


def _read(decoder: msgspec.json.Decoder[Read], body: bytes, expected: Mapping[str, str]) -> Read:
    refusals.require_few_objects(body)
    try:
        if not body.isascii():
            body.decode()
        return decoder.decode(body)
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"The body is not UTF-8 at byte {error.start}.") from None
    except (msgspec.DecodeError, RecursionError) as error:
        field, message = refusals.explain(error, expected, text=body)
        if field:
            raise PointsRejected([Problem(1, field, message)]) from None
        raise MalformedRequest(f"The body {message}.") from None


def _shape_flaws(body: Body) -> Iterator[Flaw]:
    """Accounts without a name, and columns that are empty or not all of one length."""
    if not body.accounts:
        yield "accounts", "must not be empty"
    if len(body.accounts) > MAX_ACCOUNTS:
        yield "accounts", f"must be at most {MAX_ACCOUNTS}"
        return
    for place, one in enumerate(body.accounts):
        for field, message in points.account_flaws(one.account):
            yield f"accounts[{place}].{field}", message
        size = len(one.series)
        if not size:
            yield f"accounts[{place}].series", "must not be empty"
        for name, column in (("at", one.at), ("value", one.value), ("count", one.count)):
            if column is not None and len(column) != size:
                yield f"accounts[{place}].{name}", f"must be {size} long, as series is, not {len(column)}"


def _column(columns: Iterable[list[Any]], dtype: type[Any], size: int) -> NDArray[Any]:
    return np.fromiter(chain.from_iterable(columns), dtype, size)


def _times(accounts: list[Account], size: int) -> NDArray[np.int64]:
    try:
        return _column((one.at for one in accounts), np.int64, size)
    except TypeError:  # some are datetimes
        times = chain.from_iterable(one.at for one in accounts)
        return np.fromiter(
            (time if isinstance(time, int) else int(time.timestamp()) for time in times), np.int64, size
        )


def _counts(accounts: list[Account], ends: tuple[int, ...]) -> NDArray[np.int64]:
    counts = np.zeros(ends[-1], np.int64)
    for one, end in zip(accounts, ends, strict=True):
        if one.count is not None:
            counts[end - len(one.count) : end] = one.count
    return counts


def _slots(parsed: Parsed, slot_of: SlotsOf) -> NDArray[np.int32]:
    pieces = np.split(parsed.series, parsed.ends[:-1])
    return np.concatenate([slot_of(*one) for one in zip(parsed.accounts, pieces, strict=True)])


def _require_known(parsed: Parsed, slot: NDArray[np.int32]) -> None:
    unknown = np.flatnonzero(slot < 0).tolist()
    message = "is not the number of a series of this account"
    if unknown:
        raise PointsRejected([Problem(row + 1, parsed.field(row, "series"), message) for row in unknown])


def _source_problems(source: str) -> Iterator[Problem]:
    return (Problem(1, field, message) for field, message in points.source_flaws(source))


def _row_problems(
    parsed: Parsed, rows: Written, unfit: NDArray[np.int64], known: Slots, bounds: dict[str, int]
) -> Iterator[Problem]:
    for row in unfit.tolist():
        identity = known.identities[rows.slot[row]]
        point = Point(
            account=identity.account,
            metric=identity.metric,
            at=int(rows.at[row]),
            value=float(rows.value[row]),
            count=int(rows.count[row]) or None,
        )
        for field, message in chain(points.value_flaws(point), points.time_flaws(point.at, **bounds)):
            yield Problem(row + 1, parsed.field(row, field), message)


def _repetitions(parsed: Parsed, rows: Written) -> Iterator[Problem]:
    first = written.earlier(rows)
    for row in np.flatnonzero(first != np.arange(len(first))).tolist():
        message = f"has the same series and minute as {parsed.field(int(first[row]), 'series')}"
        yield Problem(row + 1, parsed.field(row, "series"), message)


def _series_flaws(series: Series) -> Iterator[Flaw]:
    nested = points.nested(series.labels)
    if nested:
        return ((f"labels.{key[: refusals.MAX_NAME]}", "must be text") for key in nested)
    return points.identity_flaws(series.account, series.metric, points.labels(series.labels))
