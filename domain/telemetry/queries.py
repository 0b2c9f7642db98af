"""Reads telemetry: measured and derived series alike, for charts, detectors and forecasts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Text, any_, cast, false, func, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import PrincipalKind
from domain.core.errors import InvalidInput
from domain.core.visibility import ACCOUNT_IDS
from domain.telemetry import points
from domain.telemetry.derived import DERIVED, Derived, contains
from domain.telemetry.models import Series, Watermark
from domain.telemetry.watermarks import Mark, closed_until

Floats = NDArray[np.float64]
MOST_BUCKETS = 100_000


class Resolution(StrEnum):
    """Length of an interval."""

    MINUTE = "MINUTE"
    FIVE_MINUTES = "FIVE_MINUTES"
    HOUR = "HOUR"

    @property
    def step(self) -> timedelta:
        return {
            Resolution.MINUTE: timedelta(minutes=1),
            Resolution.FIVE_MINUTES: timedelta(minutes=5),
            Resolution.HOUR: timedelta(hours=1),
        }[self]


@dataclass(frozen=True)
class Window:
    """The intervals of `resolution` that begin in [from_, until); both ends are rounded down."""

    from_: datetime
    until: datetime
    resolution: Resolution

    @property
    def start(self) -> datetime:
        return _floor(self.from_, self.resolution.step)

    @property
    def buckets(self) -> int:
        span = _floor(self.until, self.resolution.step) - self.start
        size = max(0, span // self.resolution.step)
        if size > MOST_BUCKETS:
            raise InvalidInput(
                f"The window holds {size} intervals, more than {MOST_BUCKETS}: take a coarser resolution.",
                path=("window",),
            )
        return size


@dataclass(frozen=True)
class SeriesData:
    """One series over a regular grid: index i is the interval that begins at `start` + i × `step`.

    NaN in `values` is no data; `sample_sizes` are the events behind each value, 0 where there is none.
    """

    start: datetime
    step: timedelta
    values: Floats
    sample_sizes: NDArray[np.int64]


@dataclass(frozen=True)
class Counts:
    """Two counts of N series over T intervals, from which rates are derived: arrays N × T, events.

    `has_data` (T) tells the intervals in which the account sent anything at all: where it did, a
    series without points counted nothing; where it did not, nothing is known (0 in the arrays).
    """

    start: datetime
    step: timedelta
    good: Floats
    total: Floats
    has_data: NDArray[np.bool_]


def visible(kind: PrincipalKind) -> ColumnElement[bool]:
    """Operators see all series, merchants those of their accounts, others none."""
    if kind is PrincipalKind.OPERATOR:
        return true()
    return Series.account_id == any_(ACCOUNT_IDS) if kind is PrincipalKind.MERCHANT else false()


async def read(session: AsyncSession, series: Sequence[Series], window: Window) -> list[SeriesData]:
    """The data of each of `series` over `window`, in two statements however many there are.

    Counts and amounts are summed over an interval, rates are good over all, distributions and
    levels are means over observations.
    """
    found = await _sums(session, series, window)
    return [_data(one, found, window) for one in series]


async def counts(session: AsyncSession, series: Sequence[Series], window: Window) -> Counts:
    """What `series` (derived ones of one account) counted in each interval of `window`."""
    found = await _sums(session, series, window)
    shape = (len(series), window.buckets)
    good, total = np.zeros(shape), np.zeros(shape)
    for row, one in enumerate(series):
        metric = DERIVED[one.metric]
        total[row] = found.over(one, metric.total, metric)[0]
        good[row] = found.over(one, metric.good, metric)[0] if metric.good else total[row]
    return Counts(window.start, window.resolution.step, good, total, found.has_data)


async def watched(session: AsyncSession, account_id: UUID) -> Sequence[Series]:
    """The derived series of an account, each metric's total first, in an order that does not change."""
    labels = cast(Series.labels, Text)
    rows = await session.scalars(
        select(Series)
        .where(Series.account_id == account_id, Series.is_measured.is_(False))
        .order_by(Series.metric, func.length(labels), labels)
    )
    return rows.all()


async def judgeable(session: AsyncSession, at: datetime) -> dict[UUID, datetime]:
    """The accounts with closed minutes that nobody judged, and until when (exclusive) they are closed.

    Those that are the least behind come first: one with much to catch up keeps no live one waiting.
    """
    rows = (
        await session.execute(
            select(
                Watermark.account_id,
                func.max(Watermark.newest_at).over(partition_by=Watermark.source_id),
                func.max(Watermark.received_at).over(partition_by=Watermark.source_id),
            )
        )
    ).all()
    marks: dict[UUID, list[Mark]] = {}
    for account_id, newest_at, received_at in rows:
        marks.setdefault(account_id, []).append(Mark(newest_at, received_at))
    begun = await session.execute(
        text(
            "SELECT w.account_id, coalesce(max(a.judged_until), min(w.oldest_at)) FROM watermarks w"
            " LEFT JOIN account_watches a USING (account_id) GROUP BY 1"
        )
    )
    judged: dict[UUID, datetime] = {account_id: until for account_id, until in begun}
    closed = {account_id: closed_until(of_account, at) for account_id, of_account in marks.items()}
    behind = {one: closed[one] - judged[one] for one in closed.keys() & judged.keys()}
    in_order = sorted(behind, key=lambda one: (behind[one], one))
    return {one: closed[one] for one in in_order if behind[one] > timedelta()}


@dataclass(frozen=True)
class _Sums:
    """Sums of measured series (M × T), and which of them make up which series."""

    members: Sequence[Series]
    value: Floats
    count: Floats
    has_data: NDArray[np.bool_]

    def over(
        self, series: Series, outcomes: frozenset[str] | None = None, metric: Derived | None = None
    ) -> tuple[Floats, Floats]:
        """The sums (T) of value and count over the measured series that `series` is made of."""
        everyone: Sequence[int] = range(len(self.members))
        label = next(iter(series.labels.items()), None) if metric else None
        candidates = self._by_label.get(label, ()) if label else everyone
        rows = [row for row in candidates if _belongs(self.members[row], series, outcomes, metric)]
        return self.value[rows].sum(axis=0), self.count[rows].sum(axis=0)

    @cached_property
    def _by_label(self) -> Mapping[tuple[str, str], Sequence[int]]:
        """The rows that have a label: looking through all members for every slice takes their product."""
        found: dict[tuple[str, str], list[int]] = {}
        for row, member in enumerate(self.members):
            for label in member.labels.items():
                found.setdefault(label, []).append(row)
        return found


def _belongs(member: Series, series: Series, outcomes: frozenset[str] | None, metric: Derived | None) -> bool:
    if metric is None:
        return member.id == series.id
    return (
        member.account_id == series.account_id
        and member.metric == metric.source
        and (outcomes is None or member.labels.get("outcome") in outcomes)
        and contains(member.labels, series.labels)
    )


async def _sums(session: AsyncSession, series: Sequence[Series], window: Window) -> _Sums:
    members = await _members(session, series)
    shape = (len(members), window.buckets)
    value, count, seen = np.zeros(shape), np.zeros(shape), np.zeros(shape, bool)
    row_of = {member.id: row for row, member in enumerate(members)}
    for series_id, bucket, total, observations in await _buckets(session, members, window):
        index = row_of[series_id], bucket
        value[index], count[index], seen[index] = total, observations, True
    return _Sums(members, value, count, np.logical_or.reduce(seen, axis=0))


async def _members(session: AsyncSession, series: Sequence[Series]) -> Sequence[Series]:
    """The measured series among `series`, and those that the derived ones are made of."""
    derived = [one for one in series if not one.is_measured]
    members = {one.id: one for one in series if one.is_measured}
    if derived:
        rows = await session.scalars(
            select(Series).where(
                Series.account_id.in_({one.account_id for one in derived}),
                Series.metric.in_({DERIVED[one.metric].source for one in derived}),
                Series.is_measured,
            )
        )
        members.update({row.id: row for row in rows})
    return list(members.values())


# Index of the interval, sum of values, and observations (of a level: minutes).
_MINUTES = """
SELECT series_id, floor(extract(epoch FROM at - :start) / :step)::int AS bucket, sum(value) AS value,
       CASE WHEN sum(count) > 0 THEN sum(count) ELSE count(DISTINCT at) END AS count
FROM minutes WHERE account_id = ANY(:accounts) AND series_id = ANY(:series) AND at >= :start AND at < :until
GROUP BY 1, 2
"""
_HOURS = """
SELECT series_id, floor(extract(epoch FROM at - :start) / :step)::int AS bucket, sum(value) AS value,
       sum(count) AS count
FROM (
  SELECT series_id, at, value, count FROM hours
  WHERE account_id = ANY(:accounts) AND series_id = ANY(:series) AND at >= :start AND at < :tail
  UNION ALL
  SELECT series_id, date_trunc('hour', at, 'UTC'), sum(value),
         CASE WHEN sum(count) > 0 THEN sum(count) ELSE count(DISTINCT at) END
  FROM minutes
  WHERE account_id = ANY(:accounts) AND series_id = ANY(:series) AND at >= :tail AND at < :until
  GROUP BY 1, 2
) AS joined GROUP BY 1, 2
"""


async def _buckets(
    session: AsyncSession, members: Sequence[Series], window: Window
) -> Sequence[tuple[UUID, int, float, int]]:
    if not members or not window.buckets:
        return []
    step = window.resolution.step
    binds: dict[str, Any] = {
        "accounts": list({member.account_id for member in members}),
        "series": [member.id for member in members],
        "start": window.start,
        "until": window.start + window.buckets * step,
        "step": step.total_seconds(),
    }
    statement = _MINUTES
    if step >= Resolution.HOUR.step:
        statement = _HOURS
        binds["tail"] = await _rolled_until(session, binds)
    rows = await session.execute(text(statement), binds)
    return [tuple(row) for row in rows]


async def _rolled_until(session: AsyncSession, binds: dict[str, Any]) -> datetime:
    """Where the hours cease to be up to date and the minutes are read instead."""
    dirty: datetime | None = await session.scalar(
        text(
            "SELECT min(at) FROM dirty_hours"
            " WHERE account_id = ANY(:accounts) AND at >= :start AND at < :until"
        ),
        binds,
    )
    until: datetime = binds["until"]
    return dirty or until


def _data(series: Series, found: _Sums, window: Window) -> SeriesData:
    if metric := DERIVED.get(series.metric):
        total = found.over(series, metric.total, metric)[0]
        if metric.good is None:
            values = np.where(found.has_data, total, np.nan)
        else:
            values = _ratio(found.over(series, metric.good, metric)[0], total)
        sizes = total
    else:
        values, sizes = _measured(series, *found.over(series))
    return SeriesData(window.start, window.resolution.step, values, sizes.astype(np.int64))


def _measured(series: Series, value: Floats, count: Floats) -> tuple[Floats, Floats]:
    """Values and sample sizes by the metric's kind; an interval without any minute has no data."""
    kind = points.metric(series.metric).kind
    if kind in (points.Kind.COUNT, points.Kind.AMOUNT):
        return np.where(count > 0, value, np.nan), value if kind is points.Kind.COUNT else count
    return _ratio(value, count), count


def _ratio(part: Floats, whole: Floats) -> Floats:
    return np.divide(part, whole, out=np.full_like(part, np.nan), where=whole > 0)


def _floor(at: datetime, step: timedelta) -> datetime:
    return datetime.fromtimestamp(at.timestamp() // step.total_seconds() * step.total_seconds(), UTC)
