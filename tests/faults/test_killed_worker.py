"""A worker is killed in the middle of a fit: one forecast, effects once, no process and no file left over."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from sqlalchemy import select, text

from domain.core.db import Database
from domain.core.settings import Settings
from domain.forecasts import service as forecasts
from domain.forecasts.models import Forecast, Job, JobStatus
from domain.telemetry import series as telemetry
from domain.telemetry.models import Series
from tests import make
from workers.app import make_app

TRAINED_UNTIL = datetime(2026, 11, 24, 2, tzinfo=UTC)
PATIENCE_S = 120
LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
pytestmark = LINUX


class Worker:
    """A worker of the queue `slow`, whose processes are known by a mark in their environment."""

    def __init__(self, settings: Settings, mark: str) -> None:
        self.mark = f"VITALS_TEST_MARK={mark}".encode()
        environment = {
            "DATABASE_URL": settings.database_url,
            "VITALS_WORKER_DATABASE_URL": settings.worker_database_url,
            "BROKER_URL": settings.broker_url,
            "VITALS_TEST_MARK": mark,
            "TMPDIR": str(settings.data),
        }
        self.files = settings.data
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "celery", "-A", "workers.app:app", "worker",
                "-Q", "slow", "-c", "1", "-n", f"{mark}@%h", "-l", "WARNING",
                "--without-mingle", "--without-gossip",
            ],
            env={**os.environ, **environment},
        )  # fmt: skip

    def processes(self) -> dict[int, str]:
        """Pids and command lines of the worker and all that it started, zombies excepted."""
        found = {}
        for place in Path("/proc").glob("[0-9]*"):
            try:
                if self.mark in (place / "environ").read_bytes().split(b"\0"):
                    found[int(place.name)] = line_of(int(place.name))
            except OSError:  # it has ended meanwhile
                continue
        return found

    def left(self) -> list[object]:
        """Processes and files that outlived it."""
        return [*self.processes(), *self.files.glob("vitals-fit-*")]

    def stan(self) -> int | None:
        """The process in which Stan optimizes."""
        return next((pid for pid in below(self.process.pid) if "prophet_model.bin" in line_of(pid)), None)

    def pool_process(self) -> int:
        """The one whose child computes, of which Stan is a child."""
        stan = self.stan()
        assert stan is not None
        return parent(parent(stan))


def below(pid: int) -> Iterator[int]:
    """All that the process started, and what these started."""
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            children = [int(child) for child in task.read_text().split()]
        except OSError:  # it has ended meanwhile
            continue
        for child in children:
            yield child
            yield from below(child)


def line_of(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")
    except OSError:
        return ""


def parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@contextmanager
def worker(settings: Settings, mark: str) -> Iterator[Worker]:
    started = Worker(settings, mark)
    try:
        yield started
    finally:
        started.process.terminate()
        try:
            started.process.wait(PATIENCE_S)
        finally:
            started.process.kill()


def wait_for(condition: Callable[[], object], within_s: float = PATIENCE_S) -> None:
    deadline = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.005)


def freeze_stan(found: Worker) -> None:
    """Catch the fit in the middle, and hold it there."""
    wait_for(lambda: (pid := found.stan()) and _stopped(pid))


def _stopped(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGSTOP)
    except ProcessLookupError:
        return False
    return True


async def ask_for_a_forecast(worker_db: Database) -> Job:
    """Of an account with eight weeks of payments, asked for now."""
    now = datetime.now(UTC)
    account = await make.account(worker_db)
    measured = (account.id, "payments.count", (("outcome", "approved"),))
    ago = np.arange(56 * 24, 0, -1)
    values = np.random.default_rng(1).poisson(200 + 100 * np.sin(2 * np.pi * ago / 24)).tolist()
    async with worker_db.transaction() as session:
        ids = await telemetry.register(session, [measured], measured=True, at=now)
        await telemetry.watch(session, [account.id], at=now)
        payments = await session.get_one(Series, ids[measured])
        await make.hours(session, payments, *values, from_=TRAINED_UNTIL - timedelta(hours=len(ago)))
        volume = select(Series).where(Series.account_id == account.id, Series.metric == "payments.attempted")
        series = (await session.scalars(volume)).one()
        return await forecasts.request(
            session, series, requested_by="key:test", trained_until=TRAINED_UNTIL, at=now
        )


async def let_the_lease_lapse(worker_db: Database) -> None:
    async with worker_db.transaction() as session:
        await session.execute(text("UPDATE jobs SET leased_until = now() WHERE leased_until IS NOT NULL"))


def wake(settings: Settings) -> None:
    with make_app(settings) as app:
        app.send_task("forecasts.fit")


async def wait_for_the_job(worker_db: Database, job: Job, *, within_s: float = PATIENCE_S) -> Job:
    async with asyncio.timeout(within_s):
        while True:
            async with worker_db.read() as session:
                found = await session.get_one(Job, job.id)
            if found.finished_at is not None:
                return found
            await asyncio.sleep(0.1)


async def assert_one_forecast_and_its_effects_once(worker_db: Database, job: Job, *, attempts: int) -> None:
    assert (job.status, job.attempts, job.failure) == (JobStatus.SUCCEEDED, attempts, None)
    async with worker_db.read() as session:
        [forecast] = await session.scalars(select(Forecast))
    assert (forecast.series_id, forecast.model, len(forecast.yhat)) == (job.series_id, "prophet", 48)
    names = [name for name, _ in await make.recorded_events(worker_db)]
    assert names == ["forecast.requested", "forecast.fitted"]


async def test_a_fit_whose_pool_process_was_killed_is_done_by_the_next(
    settings: Settings, worker_db: Database
) -> None:
    job = await ask_for_a_forecast(worker_db)
    with worker(settings, "pool") as running:
        wake(settings)
        freeze_stan(running)
        await let_the_lease_lapse(worker_db)
        lost = {running.stan(), running.pool_process()}
        os.kill(running.pool_process(), signal.SIGKILL)
        # The broker gives the message again: nothing else asks for the fit.
        done = await wait_for_the_job(worker_db, job)
        assert lost.isdisjoint(running.processes())
        assert list(running.files.glob("vitals-fit-*")) == []
    await assert_one_forecast_and_its_effects_once(worker_db, done, attempts=2)
    assert running.left() == []


async def test_a_killed_worker_leaves_no_process_and_another_does_its_fit(
    settings: Settings, worker_db: Database
) -> None:
    job = await ask_for_a_forecast(worker_db)
    with worker(settings, "killed") as killed:
        wake(settings)
        freeze_stan(killed)
        assert len(killed.processes()) >= 4
        killed.process.kill()
        wait_for(lambda: killed.left() == [])
    await let_the_lease_lapse(worker_db)
    wake(settings)
    with worker(settings, "next") as following:
        done = await wait_for_the_job(worker_db, job)
    await assert_one_forecast_and_its_effects_once(worker_db, done, attempts=2)
    assert following.left() == []


@pytest.mark.faults
@pytest.mark.parametrize("time_number", range(3))
async def test_without_anyone_asking_again_a_killed_workers_fit_is_done_within_two_minutes(
    settings: Settings, worker_db: Database, time_number: int
) -> None:
    job = await ask_for_a_forecast(worker_db)
    with worker(settings, "killed") as killed:
        wake(settings)
        freeze_stan(killed)
        killed.process.kill()
        wait_for(lambda: killed.left() == [])
    lost_at = time.monotonic()
    with worker(settings, "next") as following, beat(settings):
        done = await wait_for_the_job(worker_db, job, within_s=120 - (time.monotonic() - lost_at))
    await assert_one_forecast_and_its_effects_once(worker_db, done, attempts=2)
    assert following.left() == []


@contextmanager
def beat(settings: Settings) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "celery", "-A", "workers.app:app", "beat",
         "-s", str(settings.data / "schedule"), "--pidfile", "", "-l", "WARNING"],
        env={**os.environ, "BROKER_URL": settings.broker_url},
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
