"""Finds forecasts, the jobs that compute them, what to forecast and from what; who sees them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import groupby
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import ColumnElement, Text, Uuid, any_, cast, exists, false, literal, select, text, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import PrincipalKind
from domain.catalog.models import Account
from domain.core.visibility import ACCOUNT_IDS
from domain.forecasts.bands import History
from domain.forecasts.models import Forecast, Job, JobStatus
from domain.telemetry import queries as telemetry
from domain.telemetry import reading, steps
from domain.telemetry.derived import ATTEMPTED, DERIVED, WATCHED_LABELS
from domain.telemetry.models import Series
from domain.telemetry.windows import Resolution, Window

HISTORY = timedelta(days=56)
"""What a forecast is learnt from."""
PLANNER = "planner"
"""Who asked for the forecasts that nobody asked for."""
WHOLE_DAYS = 7
_LOOKED_AT_DAYS = 28
MOST_SLICES = 50
_RANKED_DAYS = 7


def visible(kind: PrincipalKind) -> ColumnElement[bool]:
    """Operators see all forecasts, merchants those of their accounts, others none."""
    if kind is PrincipalKind.OPERATOR:
        return true()
    return Forecast.account_id == any_(ACCOUNT_IDS) if kind is PrincipalKind.MERCHANT else false()


def visible_jobs(kind: PrincipalKind) -> ColumnElement[bool]:
    if kind is PrincipalKind.OPERATOR:
        return true()
    return Job.account_id == any_(ACCOUNT_IDS) if kind is PrincipalKind.MERCHANT else false()


async def trained_until(
    session: AsyncSession, account_id: UUID, trained_until: datetime
) -> dict[UUID, Forecast]:
    """The account's forecasts with this end of training, by their series."""
    rows = await session.scalars(
        select(Forecast).where(Forecast.account_id == account_id, Forecast.trained_until == trained_until)
    )
    return {row.series_id: row for row in rows}


async def is_waiting(
    session: AsyncSession, account_id: UUID, trained_until: datetime, *, since: datetime
) -> bool:
    """Whether a fit of the account with this end of training, asked for after `since`, is still to come."""
    job = exists().where(
        Job.account_id == account_id,
        Job.trained_until == trained_until,
        Job.finished_at.is_(None),
        Job.created_at > since,
    )
    return bool(await session.scalar(select(job)))


async def job_for(session: AsyncSession, series: Series, trained_until: datetime) -> Job | None:
    """The newest job for this series and end of training that did not fail."""
    return await session.scalar(
        select(Job)
        .where(
            Job.account_id == series.account_id,
            Job.trained_until == trained_until,
            Job.series_id == series.id,
            Job.status.not_in((JobStatus.FAILED, JobStatus.CANCELLED)),
        )
        .order_by(Job.created_at.desc())
        .limit(1)
    )


async def is_planned(session: AsyncSession, account_id: UUID, trained_until: datetime) -> bool:
    job = exists().where(
        Job.account_id == account_id, Job.trained_until == trained_until, Job.requested_by == PLANNER
    )
    return bool(await session.scalar(select(job)))


async def history(session: AsyncSession, job: Job) -> History:
    """What the job's series did in HISTORY before the end of training."""
    series = await session.get_one(Series, job.series_id)
    account = await session.get_one(Account, job.account_id)
    window = Window(job.trained_until - HISTORY, job.trained_until, Resolution.HOUR)
    counts = await telemetry.counts(session, [series], window)
    total = np.where(counts.has_data, counts.total[0], np.nan)
    is_rate = DERIVED[series.metric].good is not None
    return History(
        at=int(counts.start.timestamp()) + 3600 * np.arange(len(total), dtype=np.int64),
        total=total,
        good=np.where(counts.has_data, counts.good[0], np.nan) if is_rate else None,
        time_zone=account.time_zone,
        country=account.country,
    )


async def has_whole_days(session: AsyncSession, account: Account, before: datetime) -> bool:
    """Whether payments were counted on WHOLE_DAYS local days before the one that `before` falls into.

    The first day known counts only if it is known from its first hour.
    """
    zone = ZoneInfo(account.time_zone)
    day = before.astimezone(zone).date() + timedelta(days=1)
    midnights = [_midnight(day - timedelta(days=ago), zone) for ago in range(_LOOKED_AT_DAYS, -1, -1)]
    known = await _known(session, account, midnights)
    if len(known) != WHOLE_DAYS:
        return len(known) > WHOLE_DAYS
    first = midnights[known[0]]
    return bool(await _known(session, account, [first, first + timedelta(hours=1)]))


async def _known(session: AsyncSession, account: Account, edges: Sequence[datetime]) -> list[int]:
    """Which of the spans between these times have payments: their indices."""
    numbers = select(Series.number).where(
        Series.account_id == account.id, Series.metric == ATTEMPTED.source, Series.is_measured
    )
    members = [(account.id, number) for number in await session.scalars(numbers) if number is not None]
    if not members:
        return []
    at = np.array([int(edge.timestamp()) for edge in edges])
    grid = await reading.read(session, members, at, step=steps.HOUR)
    return [int(span) for span in np.flatnonzero((grid.count > 0).any(axis=0))]


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


async def worth_forecasting(session: AsyncSession, account: Account, before: datetime) -> list[Series]:
    """The account's totals, and its series among the largest slices of the platform in the week before."""
    largest = (await _slices(session, before)).most_common(MOST_SLICES)
    chosen: list[dict[str, str]] = [{}]
    chosen += [{key: value} for (account_id, key, value), _ in largest if account_id == account.id]
    return [one for one in await telemetry.watched(session, account.id) if one.labels in chosen]


async def _slices(session: AsyncSession, before: datetime) -> Counter[tuple[UUID, str, str]]:
    """The attempts of every account for each value of a watched label, in the last whole local days."""
    rows = await session.execute(
        select(Series.account_id, Series.number, Series.labels, Account.time_zone)
        .join(Account, Account.id == Series.account_id)
        .where(
            Series.metric == ATTEMPTED.source,
            Series.is_measured,
            Series.labels["outcome"].astext.in_(ATTEMPTED.total),
            Series.labels.has_any(cast(WATCHED_LABELS, ARRAY(Text))),
        )
        .order_by(Account.time_zone, Series.account_id, Series.number)
    )
    found: Counter[tuple[UUID, str, str]] = Counter()
    for name, group in groupby(rows, key=lambda row: row.time_zone):
        of_zone = list(group)
        members = [(row.account_id, row.number) for row in of_zone]
        grid = await reading.read(session, members, _week(before, steps.zone(name)), step=steps.DAY)
        for row, value in zip(of_zone, grid.value.sum(axis=1).tolist(), strict=True):
            for key in WATCHED_LABELS:
                if key in row.labels and value:
                    found[row.account_id, key, row.labels[key]] += value
    return found


def _week(before: datetime, zone: ZoneInfo) -> NDArray[np.int64]:
    """The local midnights of the last RANKED_DAYS whole days, and the one that ends them."""
    day = before.astimezone(zone).date()
    midnights = [_midnight(day - timedelta(days=ago), zone) for ago in range(_RANKED_DAYS, -1, -1)]
    return np.array([int(at.timestamp()) for at in midnights])


@dataclass(frozen=True)
class Judged:
    """An account, and until when (event time) it is judged."""

    account: Account
    until: datetime


async def judged(session: AsyncSession) -> list[Judged]:
    """Every account that is judged at all."""
    rows = await session.execute(text("SELECT account_id, judged_until FROM account_watches"))
    until = {account_id: judged_until for account_id, judged_until in rows}
    wanted = literal(list(until), ARRAY(Uuid))
    accounts = await session.scalars(select(Account).where(Account.id == any_(wanted)))
    return [Judged(account, until[account.id]) for account in accounts]
