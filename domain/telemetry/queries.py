"""Reads telemetry: measured and derived series alike, for charts, detectors and forecasts; who sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Text, any_, cast, false, func, select, text, true
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import PrincipalKind
from domain.core.visibility import ACCOUNT_IDS
from domain.telemetry import lines, values
from domain.telemetry.aggregations import Aggregation, Floats
from domain.telemetry.lines import Line
from domain.telemetry.models import Series, Watermark
from domain.telemetry.watermarks import Mark, closed_until
from domain.telemetry.windows import Window


@dataclass(frozen=True)
class SeriesData:
    """One series over the intervals of a window.

    NaN in `values` is no data; `sample_sizes` are the events behind each value (of amounts and levels the
    minutes), 0 where there is none.
    """

    window: Window
    values: Floats
    sample_sizes: NDArray[np.int64]


@dataclass(frozen=True)
class Summary:
    """All of a window as one number; None without data."""

    value: float | None
    sample_size: int


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


async def read(
    session: AsyncSession,
    series: Sequence[Series] | Sequence[Line],
    window: Window,
    aggregation: Aggregation | None = None,
) -> list[SeriesData]:
    """The data of each of `series` over `window`, in a number of statements that does not grow with them.

    Without an aggregation: counts and amounts are summed over an interval, rates are good over all,
    distributions and levels are means over observations. The window of days has the zone of the series'
    accounts. Raises InvalidInput where one of the series cannot be aggregated so.
    """
    found = await values.values(session, await _lines(session, series), window.intervals, aggregation)
    return [SeriesData(window, *one) for one in zip(*found, strict=True)]


async def summarize(
    session: AsyncSession,
    series: Sequence[Series] | Sequence[Line],
    window: Window,
    aggregation: Aggregation | None = None,
) -> list[Summary]:
    """What each of `series` comes to over all the intervals of `window`; otherwise as `read`."""
    found, sizes = await values.values(session, await _lines(session, series), window.whole, aggregation)
    return [
        Summary(None if np.isnan(value) else value, size)
        for value, size in zip(found[:, 0].tolist(), sizes[:, 0].tolist(), strict=True)
    ]


async def counts(session: AsyncSession, series: Sequence[Series], window: Window) -> Counts:
    """What `series` (derived ones of one account) counted in each interval of `window`."""
    found = await lines.of(session, series)
    total, good, has_data = await values.sums(session, found, window.intervals)
    return Counts(window.start, window.resolution.step, good, total, has_data)


async def _lines(session: AsyncSession, series: Sequence[Series] | Sequence[Line]) -> Sequence[Line]:
    """As they are, or those that the series are."""
    found = [one for one in series if isinstance(one, Line)]
    return found or await lines.of(session, [one for one in series if isinstance(one, Series)])


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
                func.max(Watermark.newest_at).over(partition_by=Watermark.source),
                func.max(Watermark.received_at).over(partition_by=Watermark.source),
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
