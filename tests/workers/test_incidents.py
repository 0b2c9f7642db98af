"""Incidents follow the episodes of every account, and reach all who depend on what they are about."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select

from domain.anomalies.models import Anomaly
from domain.catalog.models import Account, Partner
from domain.core.db import Database
from domain.incidents import service as incidents
from domain.incidents.models import Incident, IncidentAccount, Resolution
from tests import make
from tests.make import NOON
from workers.app import BEAT, app

MINUTE = timedelta(minutes=1)


async def run(task: str, db: Database, at: datetime = NOON, **arguments: Any) -> Any:
    app.loader.import_default_modules()
    return await app.tasks[task].run.__wrapped__(db, at, **arguments)


async def episode(
    worker_db: Database, account: Account, partner: Partner, metric: str = "completion_rate", **columns: Any
) -> Anomaly:
    labels = {"partner": partner.code}
    async with worker_db.transaction() as session:
        series = await make.series(session, account, metric, **labels)
        return await make.anomaly(session, series, **columns)


async def incident_of(worker_db: Database, anomaly: Anomaly) -> Incident:
    async with worker_db.read() as session:
        row = await session.get_one(Anomaly, anomaly.id)
        assert row.incident_id is not None
        return await session.get_one(Incident, row.incident_id)


async def test_an_account_whose_incidents_cannot_be_followed_does_not_stop_the_others(
    worker_db: Database,
) -> None:
    partner = await make.partner(worker_db)
    zones = ("UTC", "Mars/Olympus", "UTC")
    accounts = [await make.account(worker_db, time_zone=zone) for zone in zones]
    for number, account in enumerate(accounts):
        start = NOON + number * timedelta(days=1)
        await episode(
            worker_db,
            account,
            partner,
            started_at=start,
            detected_at=start + MINUTE,
            ended_at=start + 5 * MINUTE,
        )
    with pytest.raises(ExceptionGroup, match="followed"):
        await run("incidents.follow", worker_db)
    async with worker_db.read() as session:
        followed = await session.scalars(select(Anomaly.account_id).where(Anomaly.incident_id.is_not(None)))
        assert set(followed) == {accounts[0].id, accounts[2].id}


async def test_an_incident_lasts_while_another_account_that_joined_it_later_is_hit(
    worker_db: Database,
) -> None:
    partner = await make.partner(worker_db)
    late, first, second = [await make.account(worker_db) for _ in range(3)]
    over = [await episode(worker_db, account, partner) for account in (first, second)]
    await run("incidents.follow", worker_db)
    async with worker_db.transaction() as session:
        for one in over:
            (await session.get_one(Anomaly, one.id)).ended_at = NOON + 30 * MINUTE
    joined = await episode(
        worker_db, late, partner, started_at=NOON + 20 * MINUTE, detected_at=NOON + 40 * MINUTE
    )
    for _ in range(2):
        await run("incidents.follow", worker_db)
    assert (await incident_of(worker_db, joined)).resolved_at is None


async def test_what_happened_long_before_a_live_incident_of_the_partner_is_followed(
    worker_db: Database,
) -> None:
    partner = await make.partner(worker_db)
    for ago, ended in ((timedelta(), None), (timedelta(days=30), 5 * MINUTE)):
        start = NOON - ago
        for _ in range(2):
            account = await make.account(worker_db)
            await episode(
                worker_db, account, partner, started_at=start, detected_at=start + MINUTE,
                ended_at=start + ended if ended else None,
            )  # fmt: skip
        await run("incidents.follow", worker_db)
    async with worker_db.read() as session:
        left = await session.scalar(select(func.count()).where(Anomaly.incident_id.is_(None)))
        assert left == 0


async def test_accounts_that_were_not_told_of_a_live_incident_are_found_without_being_asked(
    worker_db: Database,
) -> None:
    partner, service = await make.partner(worker_db), await make.service(worker_db)
    known, late, other = [await make.account(worker_db) for _ in range(3)]
    for account, component in ((known, partner), (late, partner), (other, service)):
        await make.dependency(worker_db, account, component)
    live = await make.incident(worker_db, partners=[partner], accounts=[known])
    await make.incident(worker_db, services=[service], resolved_at=NOON)
    assert await run("incidents.spread", worker_db) == 1
    assert await run("incidents.spread", worker_db) == 0
    async with worker_db.read() as session:
        rows = await session.execute(select(IncidentAccount.incident_id, IncidentAccount.account_id))
        assert {tuple(row) for row in rows} == {(live.id, known.id), (live.id, late.id)}
    assert "incidents.spread" in {entry["task"] for entry in BEAT.values()}


async def test_what_a_person_reopens_is_not_resolved_again_for_the_same_end(worker_db: Database) -> None:
    partner, account = await make.partner(worker_db), await make.account(worker_db)
    over = await episode(worker_db, account, partner, ended_at=NOON + 30 * MINUTE)
    await run("incidents.follow", worker_db)
    incident = await incident_of(worker_db, over)
    assert incident.resolution is Resolution.OBSERVED
    async with worker_db.transaction() as session:
        await incidents.reopen(
            session, incident.id, actor=make.operator(), at=NOON + 40 * MINUTE, within=timedelta(days=1)
        )
    await run("incidents.follow", worker_db)
    assert (await incident_of(worker_db, over)).resolved_at is None
    again = await episode(
        worker_db, account, partner, "authorization_rate", started_at=NOON + 41 * MINUTE,
        detected_at=NOON + 45 * MINUTE, ended_at=NOON + 60 * MINUTE,
    )  # fmt: skip
    await run("incidents.follow", worker_db)
    assert (await incident_of(worker_db, again)).id == incident.id
    assert (await incident_of(worker_db, again)).resolved_at == NOON + 60 * MINUTE
