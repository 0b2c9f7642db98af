"""Fits what is asked for, one leased job after the other, and asks for what nobody asked for."""

import dataclasses
import time
from datetime import UTC, datetime, timedelta

from domain.core.db import Database
from domain.forecasts import fitting, prophet_model, queries
from domain.forecasts import service as forecasts
from domain.forecasts.bands import Bands, History
from domain.forecasts.models import Job
from workers import fits
from workers.runtime import task

# Then the other tasks of the queue have their turn; the relay asks again while jobs wait. A fit begun
# even at the last moment ends by its own limit before the task does.
_BEGIN_WITHIN_S = 5.0


@task("forecasts.fit")
async def fit(db: Database, at: datetime) -> int:
    """Jobs done; what is left when the time is over is left to the next task."""
    began, done = time.monotonic(), 0
    while (used := time.monotonic() - began) < _BEGIN_WITHIN_S:
        if not await fit_next(db, at + timedelta(seconds=used)):
            break
        done += 1
    return done


async def fit_next(db: Database, at: datetime) -> bool:
    """Lease one job and fit it; False when there is none. Nothing is open while it computes."""
    async with db.transaction() as session:
        job = await forecasts.lease(session, at)
    if job is None:
        return False
    try:
        async with db.read() as session:
            history = await queries.history(session, job)
        bands = Bands(**await fits.run(lambda: _compute(history, job)))
    except fits.FitFailed as failure:
        async with db.transaction() as session:
            final = isinstance(failure, fits.FitRefused)
            await forecasts.fail(
                session, job.id, str(failure), attempt=job.attempts, at=datetime.now(UTC), final=final
            )
    else:
        async with db.transaction() as session:
            await forecasts.finish(session, job.id, bands, at=datetime.now(UTC))
    return True


def _compute(history: History, job: Job) -> fits.Json:
    """In the child."""
    prophet_model.keep_files_in_temporary_place()
    until = int(job.trained_until.timestamp()) // fitting.HOUR * fitting.HOUR
    return dataclasses.asdict(fitting.fit(history, trained_until=until, horizon_hours=job.horizon_hours))


@task("forecasts.plan")
async def plan(db: Database, at: datetime) -> None:
    async with db.transaction() as session:
        await forecasts.plan(session, at)
