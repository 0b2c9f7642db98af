"""Finds forecasts, the jobs that compute them, what to forecast and from what; who sees them."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from sqlalchemy import ColumnElement, Uuid, any_, exists, false, literal, select, text, true
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.models import PrincipalKind
from domain.catalog.models import Account
from domain.core.visibility import ACCOUNT_IDS
from domain.forecasts.bands import History
from domain.forecasts.models import Forecast, Job, JobStatus
from domain.telemetry import queries as telemetry
from domain.telemetry.derived import ATTEMPTED, DERIVED, WATCHED_LABELS
from domain.telemetry.models import Series
from domain.telemetry.queries import Resolution, Window

HISTORY = timedelta(days=56)
"""What a forecast is learnt from."""
PLANNER = "planner"
"""Who asked for the forecasts that nobody asked for."""
WHOLE_DAYS = 7
_LOOKED_AT_DAYS = 28
MOST_SLICES = 50
_RANKED_OVER = timedelta(days=7)


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


# Both look only at one series at a time: the hours' key leads with account and series.
_DAYS = text(
    """
    SELECT day.number FROM unnest(CAST(:starts AS timestamptz[]), CAST(:ends AS timestamptz[]))
      WITH ORDINALITY AS day (start, "end", number)
    WHERE EXISTS (SELECT FROM series s JOIN hours h ON h.account_id = s.account_id AND h.series_id = s.id
      AND h.at >= day.start AND h.at < day."end"
      WHERE s.account_id = :account AND s.metric = :metric AND s.is_measured)
    ORDER BY 1
    """
)
_LARGEST = text(
    """
    SELECT s.account_id, label.key, label.value
    FROM series s JOIN hours h ON h.account_id = s.account_id AND h.series_id = s.id
    CROSS JOIN LATERAL jsonb_each_text(s.labels) AS label
    WHERE s.is_measured AND s.metric = :metric AND label.key = ANY(:labels)
      AND s.labels->>'outcome' = ANY(:outcomes) AND h.at >= :start AND h.at < :until
    GROUP BY 1, 2, 3 ORDER BY sum(h.value) DESC, 1, 2, 3 LIMIT :limit
    """
)


async def has_whole_days(session: AsyncSession, account: Account, before: datetime) -> bool:
    """Whether payments were counted on WHOLE_DAYS local days before the one that `before` falls into.

    The first day known counts only if it is known from its first hour.
    """
    zone = ZoneInfo(account.time_zone)
    day = before.astimezone(zone).date() + timedelta(days=1)
    midnights = [_midnight(day - timedelta(days=ago), zone) for ago in range(_LOOKED_AT_DAYS, -1, -1)]
    known = await _known(session, account, midnights[:-1], midnights[1:])
    if len(known) != WHOLE_DAYS:
        return len(known) > WHOLE_DAYS
    first = midnights[known[0]]
    return bool(await _known(session, account, [first], [first + timedelta(hours=1)]))


async def _known(
    session: AsyncSession, account: Account, starts: Sequence[datetime], ends: Sequence[datetime]
) -> list[int]:
    """Which of these spans have payments: their indices."""
    binds = {"account": account.id, "metric": ATTEMPTED.source, "starts": starts, "ends": ends}
    return [number - 1 for number in (await session.scalars(_DAYS, binds)).all()]


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(), zone).astimezone(UTC)


async def worth_forecasting(session: AsyncSession, account: Account, before: datetime) -> list[Series]:
    """The account's totals, and its series among the largest slices of the platform in the week before."""
    rows = await session.execute(
        _LARGEST,
        {
            "metric": ATTEMPTED.source,
            "labels": list(WATCHED_LABELS),
            "outcomes": sorted(ATTEMPTED.total),
            "start": before - _RANKED_OVER,
            "until": before,
            "limit": MOST_SLICES,
        },
    )
    chosen: list[dict[str, str]] = [{}]
    chosen += [{key: value} for account_id, key, value in rows if account_id == account.id]
    return [one for one in await telemetry.watched(session, account.id) if one.labels in chosen]


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
