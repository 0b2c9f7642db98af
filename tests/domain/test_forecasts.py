"""Fits are asked for once, leased by one worker at a time, and what they compute has one effect."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from sqlalchemy import select

from domain.anomalies.models import AccountWatch
from domain.catalog.models import Account
from domain.core.db import Database
from domain.core.errors import InvalidInput
from domain.forecasts import queries
from domain.forecasts import service as forecasts
from domain.forecasts.bands import Bands
from domain.forecasts.models import Forecast, Job, JobStatus
from domain.telemetry import series as telemetry
from domain.telemetry.models import Series
from tests import make

TRAINED_UNTIL = datetime(2026, 11, 24, 2, tzinfo=UTC)  # 23:00 in São Paulo
NOW = datetime(2026, 11, 24, 2, 1, tzinfo=UTC)
BANDS = Bands(
    model="mean", trained_from=0, start=int(TRAINED_UNTIL.timestamp()),
    yhat=[2.0], lower80=[1.0], upper80=[3.0], lower95=[0.0], upper95=[4.0], remarks=["Simple."],
)  # fmt: skip


async def derived(worker_db: Database, account: Account, **labels: str) -> Series:
    identity = (account.id, "authorization_rate", tuple(labels.items()))
    async with worker_db.transaction() as session:
        ids = await telemetry.register(session, [identity], measured=False, at=NOW)
        return await session.get_one(Series, ids[identity])


async def count(
    worker_db: Database, account: Account, hours: Mapping[datetime, float], **labels: str
) -> None:
    """Let the account have counted approved payments, by the hour; its watched series are registered."""
    identity = (account.id, "payments.count", tuple(sorted({"outcome": "approved", **labels}.items())))
    async with worker_db.transaction() as session:
        ids = await telemetry.register(session, [identity], measured=True, at=NOW)
        await telemetry.watch(session, [account.id], at=NOW)
        series = await session.get_one(Series, ids[identity])
        for at, value in hours.items():
            await make.hour(session, series, value, at=at)


def whole_days(number: int) -> list[datetime]:
    """The hours of local days up to TRAINED_UNTIL."""
    return [TRAINED_UNTIL - timedelta(hours=ago) for ago in range(1, number * 24)]


async def ask(
    db: Database, series: Series, *, at: datetime = NOW, trained_until: datetime = TRAINED_UNTIL
) -> Job:
    async with db.transaction(f"account:{series.account_id}") as session:
        return await forecasts.request(
            session, series, requested_by="key:test", trained_until=trained_until, at=at
        )


async def lease(worker_db: Database, *, at: datetime = NOW) -> Job | None:
    async with worker_db.transaction() as session:
        return await forecasts.lease(session, at)


async def job(worker_db: Database, job_id: UUID) -> Job:
    async with worker_db.read() as session:
        return await session.get_one(Job, job_id)


async def rows(worker_db: Database, model: type[Any]) -> list[Any]:
    async with worker_db.read() as session:
        return list(await session.scalars(select(model)))


async def names_of_events(worker_db: Database) -> list[str]:
    return [name for name, _ in await make.recorded_events(worker_db)]


async def test_a_fit_that_waits_is_joined(db: Database, worker_db: Database) -> None:
    series = await derived(worker_db, await make.account(db))
    asked = await asyncio.gather(*(ask(db, series) for _ in range(5)))
    assert len({one.id for one in asked}) == 1
    assert asked[0].status is JobStatus.QUEUED
    assert await make.recorded_events(worker_db) == [("forecast.requested", {"series": str(series.id)})]


async def test_a_fit_that_was_made_is_joined_and_one_that_failed_is_not(
    db: Database, worker_db: Database
) -> None:
    series = await derived(worker_db, await make.account(db))
    failed = await ask(db, series)
    async with worker_db.transaction() as session:
        await forecasts.fail(session, failed.id, "No.", attempt=0, at=NOW, final=True)
    asked = await ask(db, series)
    assert asked.id != failed.id
    async with worker_db.transaction() as session:
        await forecasts.finish(session, asked.id, BANDS, at=NOW)
    assert (await ask(db, series)).id == asked.id


async def test_measured_series_are_not_forecast(db: Database, worker_db: Database) -> None:
    account = await make.account(db)
    await count(worker_db, account, {TRAINED_UNTIL - timedelta(hours=1): 5.0})
    [measured] = [one for one in await rows(worker_db, Series) if one.is_measured]
    with pytest.raises(InvalidInput, match=r"payments\.count is not forecast; these are: authorization_rate"):
        await ask(db, measured)
    assert await rows(worker_db, Job) == []


async def test_a_job_is_leased_by_one_worker_until_its_lease_lapses(
    db: Database, worker_db: Database
) -> None:
    asked = await ask(db, await derived(worker_db, await make.account(db)))
    leased = [one for one in await asyncio.gather(*(lease(worker_db) for _ in range(4))) if one]
    assert [one.id for one in leased] == [asked.id]
    assert await lease(worker_db, at=NOW + forecasts.LEASED_FOR - timedelta(seconds=1)) is None
    again = await lease(worker_db, at=NOW + forecasts.LEASED_FOR)
    assert again is not None
    assert (again.id, again.attempts, again.status) == (asked.id, 2, JobStatus.RUNNING)


async def test_an_account_whose_fits_were_tried_stands_behind_the_others(
    db: Database, worker_db: Database
) -> None:
    first, second = await make.account(db), await make.account(db)
    of_first = [await derived(worker_db, first, partner=name) for name in ("a", "b", "c")]
    early = [await ask(db, one, at=NOW - timedelta(hours=1)) for one in of_first]
    late = await ask(db, await derived(worker_db, second))
    taken = [await lease(worker_db) for _ in range(4)]
    assert [one.id for one in taken if one] == [early[0].id, late.id, early[1].id, early[2].id]


async def test_a_job_that_is_lost_three_times_ends_with_a_sentence(db: Database, worker_db: Database) -> None:
    asked = await ask(db, await derived(worker_db, await make.account(db)))
    for attempt in range(3):
        assert await lease(worker_db, at=NOW + attempt * forecasts.LEASED_FOR) is not None
    assert await lease(worker_db, at=NOW + 3 * forecasts.LEASED_FOR) is None
    ended = await job(worker_db, asked.id)
    assert (ended.status, ended.failure) == (JobStatus.FAILED, "The fit was lost 3 times with its worker.")


async def test_a_job_that_fails_three_times_ends_with_the_last_reason(
    db: Database, worker_db: Database
) -> None:
    asked = await ask(db, await derived(worker_db, await make.account(db)))
    for attempt in (1, 2, 3):
        assert (await job(worker_db, asked.id)).failure is None
        assert await lease(worker_db) is not None
        async with worker_db.transaction() as session:
            await forecasts.fail(session, asked.id, f"Reason {attempt}.", attempt=attempt, at=NOW)
    ended = await job(worker_db, asked.id)
    assert (ended.status, ended.failure) == (JobStatus.FAILED, "Reason 3.")


async def test_a_fit_that_is_finished_twice_has_one_effect(db: Database, worker_db: Database) -> None:
    series = await derived(worker_db, await make.account(db))
    asked = await ask(db, series)
    await lease(worker_db)
    for _ in range(2):
        async with worker_db.transaction() as session:
            await forecasts.finish(session, asked.id, BANDS, at=NOW)
    async with worker_db.transaction() as session:
        await forecasts.fail(session, asked.id, "Too late.", attempt=1, at=NOW, final=True)
    [kept] = await rows(worker_db, Forecast)
    assert (kept.series_id, kept.trained_until, kept.start) == (series.id, TRAINED_UNTIL, TRAINED_UNTIL)
    assert (kept.yhat, kept.yhat_upper95, kept.remarks) == ([2.0], [4.0], ["Simple."])
    assert await names_of_events(worker_db) == ["forecast.requested", "forecast.fitted"]
    ended = await job(worker_db, asked.id)
    assert (ended.status, ended.finished_at, ended.failure) == (JobStatus.SUCCEEDED, NOW, None)


async def test_an_attempt_that_was_overtaken_cannot_give_up_the_next(
    db: Database, worker_db: Database
) -> None:
    asked = await ask(db, await derived(worker_db, await make.account(db)))
    await lease(worker_db)
    await lease(worker_db, at=NOW + forecasts.LEASED_FOR)
    async with worker_db.transaction() as session:
        await forecasts.fail(session, asked.id, "Late.", attempt=1, at=NOW, final=True)
    assert (await job(worker_db, asked.id)).status is JobStatus.RUNNING


async def test_a_merchant_sees_its_own_jobs_alone(db: Database, worker_db: Database) -> None:
    mine, other = await make.account(db), await make.account(db)
    asked = await ask(db, await derived(worker_db, mine))
    await ask(db, await derived(worker_db, other))
    principal = make.merchant(mine)
    async with db.read(principal.scope) as session:
        statement = select(Job.id).where(queries.visible_jobs(principal.kind))
        assert (await session.scalars(statement, principal.binds())).all() == [asked.id]
        assert (await session.scalars(select(Job.id))).all() == [asked.id]


async def test_the_history_is_hours_in_which_the_account_sent_anything(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db, country="BR")
    await count(worker_db, account, {TRAINED_UNTIL - timedelta(hours=3): 8.0}, partner="a")
    await count(worker_db, account, {TRAINED_UNTIL - timedelta(hours=1): 5.0}, partner="b")
    asked = await ask(db, await derived(worker_db, account, partner="a"))
    async with worker_db.read() as session:
        history = await queries.history(session, asked)
    assert history.good is not None
    assert history.at[-1] == TRAINED_UNTIL.timestamp() - 3600
    assert len(history.at) == queries.HISTORY // timedelta(hours=1)
    np.testing.assert_array_equal(history.total[-3:], [8.0, np.nan, 0.0])
    np.testing.assert_array_equal(history.good[-3:], [8.0, np.nan, 0.0])
    assert (history.time_zone, history.country) == ("America/Sao_Paulo", "BR")


async def plan(worker_db: Database) -> None:
    async with worker_db.transaction() as session:
        await forecasts.plan(session, NOW)


async def judge_until(worker_db: Database, account: Account, until: datetime) -> None:
    async with worker_db.transaction() as session:
        session.add(AccountWatch(account_id=account.id, judged_from=until, judged_until=until, state=b""))


@pytest.mark.parametrize(
    ("judged_until", "trained_until"),
    [
        (TRAINED_UNTIL, TRAINED_UNTIL),
        (TRAINED_UNTIL - timedelta(minutes=1), TRAINED_UNTIL - timedelta(days=1)),
    ],
)
async def test_a_days_forecasts_are_planned_once_from_an_hour_before_its_midnight(
    db: Database, worker_db: Database, judged_until: datetime, trained_until: datetime
) -> None:
    account = await make.account(db)
    await count(worker_db, account, dict.fromkeys(whole_days(9), 20.0), partner="a", terminal="7")
    await judge_until(worker_db, account, judged_until)
    for _ in range(2):
        await plan(worker_db)
    planned = await rows(worker_db, Job)
    assert {one.trained_until for one in planned} == {trained_until}
    watched = [one for one in await rows(worker_db, Series) if not one.is_measured]
    assert sorted(one.series_id for one in planned) == sorted(one.id for one in watched)
    assert sorted(str(one.labels) for one in watched) == ["{'partner': 'a'}"] * 3 + ["{}"] * 3


async def test_nothing_is_planned_before_seven_whole_local_days(db: Database, worker_db: Database) -> None:
    young, old, unjudged = [await make.account(db) for _ in range(3)]
    await count(worker_db, young, dict.fromkeys(whole_days(7)[:-1], 20.0))
    await count(worker_db, old, dict.fromkeys(whole_days(7), 20.0))
    await count(worker_db, unjudged, dict.fromkeys(whole_days(7), 20.0))
    await judge_until(worker_db, young, TRAINED_UNTIL)
    await judge_until(worker_db, old, TRAINED_UNTIL)
    await plan(worker_db)
    assert {one.account_id for one in await rows(worker_db, Job)} == {old.id}


async def test_only_the_largest_slices_of_the_platform_are_planned(
    db: Database, worker_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queries, "MOST_SLICES", 2)
    large, small = await make.account(db), await make.account(db)
    for name, value in (("a", 30.0), ("b", 20.0), ("c", 10.0)):
        await count(worker_db, large, dict.fromkeys(whole_days(8), value), partner=name)
    await count(worker_db, small, dict.fromkeys(whole_days(8), 5.0), partner="a")
    for account in (large, small):
        async with worker_db.transaction() as session:
            await forecasts.plan_day(session, account, TRAINED_UNTIL, NOW)
    series = {one.id: one for one in await rows(worker_db, Series)}
    chosen = {(one.account_id, str(series[one.series_id].labels)) for one in await rows(worker_db, Job)}
    assert chosen == {
        (large.id, "{}"), (large.id, "{'partner': 'a'}"), (large.id, "{'partner': 'b'}"), (small.id, "{}")
    }  # fmt: skip
    async with worker_db.read() as session:
        assert await queries.is_waiting(session, large.id, TRAINED_UNTIL, since=NOW - timedelta(minutes=1))
        assert not await queries.is_waiting(session, large.id, TRAINED_UNTIL, since=NOW)
