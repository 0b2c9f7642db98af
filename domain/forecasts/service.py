"""Asks for forecasts and keeps them. A fit is a leased job: what is computed twice has one effect."""

from datetime import UTC, datetime, time, timedelta
from typing import Any, cast
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import CursorResult, Insert, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account
from domain.core import events
from domain.core.errors import InvalidInput
from domain.core.ids import uuid7
from domain.forecasts import queries
from domain.forecasts.bands import Bands
from domain.forecasts.models import Forecast, Job, JobKind, JobStatus
from domain.telemetry.derived import DERIVED
from domain.telemetry.models import Series

LEASED_FOR = timedelta(seconds=60)
"""Longer than a fit may take: what is not finished by then was lost with its worker."""
ATTEMPTS = 3
HORIZON_HOURS = 48
PLANNED_BEFORE = timedelta(hours=1)
"""The forecasts of a local day are trained until so long before its midnight."""


async def request(
    session: AsyncSession,
    series: Series,
    *,
    requested_by: str,
    trained_until: datetime,
    horizon_hours: int = HORIZON_HOURS,
    at: datetime,
) -> Job:
    """Ask for a forecast; a fit that waits, or was made, for this end of training is joined.

    InvalidInput for a measured series: those that are made of counts can be forecast.
    """
    if series.metric not in DERIVED:
        raise InvalidInput(
            f"{series.metric} is not forecast; these are: {', '.join(sorted(DERIVED))}.", path=("seriesId",)
        )
    if joined := await queries.job_for(session, series, trained_until):
        return joined
    job_id = uuid7()
    asked = insert(Job).values(
        id=job_id,
        account_id=series.account_id,
        series_id=series.id,
        kind=JobKind.FORECAST,
        status=JobStatus.QUEUED,
        requested_by=requested_by,
        trained_until=trained_until,
        horizon_hours=horizon_hours,
        attempts=0,
        created_at=at,
    )
    if not await _inserted(session, asked.on_conflict_do_nothing()):
        # Another asked since: its job is committed now, or this one would have been inserted.
        joined = await queries.job_for(session, series, trained_until)
        return joined or await request(
            session, series, requested_by=requested_by, trained_until=trained_until,
            horizon_hours=horizon_hours, at=at,
        )  # fmt: skip
    await events.record(
        session, "forecast.requested", job_id, at=at, account_id=series.account_id, series=str(series.id)
    )
    return await session.get_one(Job, job_id)


async def plan(session: AsyncSession, at: datetime) -> None:
    """Ask for the forecasts of the local day that each account is being judged on, or is about to be."""
    for judged in await queries.judged(session):
        zone = ZoneInfo(judged.account.time_zone)
        day = (judged.until + PLANNED_BEFORE).astimezone(zone).date()
        midnight = datetime.combine(day, time(), zone).astimezone(UTC)
        await plan_day(session, judged.account, midnight - PLANNED_BEFORE, at)


async def plan_day(session: AsyncSession, account: Account, trained_until: datetime, at: datetime) -> None:
    """Ask once for the account's forecasts with this end of training, if it has history enough."""
    if await queries.is_planned(session, account.id, trained_until):
        return
    if not await queries.has_whole_days(session, account, trained_until):
        return
    for series in await queries.worth_forecasting(session, account, trained_until):
        await request(session, series, requested_by=queries.PLANNER, trained_until=trained_until, at=at)


# Who has burnt attempts stands behind the others, so that nobody's hanging fits stop everybody's.
_NEXT = text(
    """
    WITH burden AS (
      SELECT account_id, sum(attempts) AS attempts FROM jobs WHERE finished_at IS NULL GROUP BY 1
    )
    SELECT j.id FROM jobs j JOIN burden b ON b.account_id = j.account_id
    WHERE j.finished_at IS NULL AND (j.leased_until IS NULL OR j.leased_until <= :at)
    ORDER BY b.attempts, j.attempts, j.created_at, j.id LIMIT 1 FOR UPDATE OF j SKIP LOCKED
    """
)


async def lease(session: AsyncSession, at: datetime) -> Job | None:
    """Take the next job that nobody holds, for LEASED_FOR; None when there is none.

    A job that was lost ATTEMPTS times ends here as FAILED.
    """
    while job_id := await session.scalar(_NEXT, {"at": at}):
        job = await session.get_one(Job, job_id, populate_existing=True)
        if job.attempts < ATTEMPTS:
            job.status, job.started_at, job.leased_until = JobStatus.RUNNING, at, at + LEASED_FOR
            job.attempts += 1
            await session.flush()
            return job
        _end(job, JobStatus.FAILED, at=at, failure=f"The fit was lost {ATTEMPTS} times with its worker.")
        await session.flush()
    return None


async def finish(session: AsyncSession, job_id: UUID, bands: Bands, *, at: datetime) -> None:
    """Keep what a job computed; a second time, or for the same end of training, it has no effect."""
    job = await _locked(session, job_id)
    if job.finished_at is not None:
        return
    forecast_id = uuid7()
    kept = insert(Forecast).values(id=forecast_id, fitted_at=at, **_columns(job, bands))
    if await _inserted(session, kept.on_conflict_do_nothing()):
        await events.record(
            session,
            "forecast.fitted",
            forecast_id,
            at=at,
            account_id=job.account_id,
            series=str(job.series_id),
            job=str(job.id),
        )
    _end(job, JobStatus.SUCCEEDED, at=at)


async def fail(
    session: AsyncSession, job_id: UUID, failure: str, *, attempt: int, at: datetime, final: bool = False
) -> None:
    """Give up the `attempt` for the reason `failure` (a sentence): FAILED if it is the last or `final`.

    Without effect when the lease has lapsed and another attempt has begun.
    """
    job = await _locked(session, job_id)
    if job.finished_at is not None or job.attempts != attempt:
        return
    if final or attempt >= ATTEMPTS:
        _end(job, JobStatus.FAILED, at=at, failure=failure)
    else:
        job.status, job.leased_until = JobStatus.QUEUED, None


def _columns(job: Job, bands: Bands) -> dict[str, Any]:
    return {
        "account_id": job.account_id,
        "series_id": job.series_id,
        "model": bands.model,
        "trained_from": datetime.fromtimestamp(bands.trained_from, UTC),
        "trained_until": job.trained_until,
        "start": datetime.fromtimestamp(bands.start, UTC),
        "yhat": bands.yhat,
        "yhat_lower80": bands.lower80,
        "yhat_upper80": bands.upper80,
        "yhat_lower95": bands.lower95,
        "yhat_upper95": bands.upper95,
        "remarks": bands.remarks,
        "settings": bands.settings,
    }


def _end(job: Job, status: JobStatus, *, at: datetime, failure: str | None = None) -> None:
    job.status, job.finished_at, job.leased_until, job.failure = status, at, None, failure


async def _locked(session: AsyncSession, job_id: UUID) -> Job:
    rows = await session.scalars(
        select(Job).where(Job.id == job_id).with_for_update().execution_options(populate_existing=True)
    )
    return rows.one()


async def _inserted(session: AsyncSession, statement: Insert) -> bool:
    return cast(CursorResult[Any], await session.execute(statement)).rowcount == 1
