"""Episodes become incidents: an account's own, and the partner's once a second account fails at it."""

from datetime import timedelta

from sqlalchemy import select

from domain.anomalies.models import Anomaly
from domain.catalog.models import Account, Partner
from domain.core.db import Database
from domain.incidents import detected
from domain.incidents.models import Incident, IncidentPartner
from tests import make
from tests.make import NOON

MINUTE = timedelta(minutes=1)


async def falls(worker_db: Database, account: Account, partner: Partner, *, minute: int) -> Anomaly:
    """The account's total falls, because of the partner."""
    async with worker_db.transaction() as session:
        series = await make.series(session, account, "completion_rate")
        return await make.anomaly(
            session,
            series,
            started_at=NOON,
            detected_at=NOON + minute * MINUTE,
            cause={"partner": partner.code},
        )


async def recovers(worker_db: Database, anomaly: Anomaly, *, minute: int) -> None:
    async with worker_db.transaction() as session:
        row = await session.get_one(Anomaly, anomaly.id)
        row.ended_at = NOON + minute * MINUTE


async def follow(worker_db: Database, account: Account) -> None:
    async with worker_db.transaction() as session:
        await detected.follow(session, account.id, at=NOON)


async def incidents(worker_db: Database) -> dict[str, bool]:
    """The grouping keys' owners, and whether each incident is over."""
    async with worker_db.read() as session:
        rows = await session.scalars(select(Incident).order_by(Incident.detected_at, Incident.id))
        return {row.grouping_key.rpartition(":")[0]: row.resolved_at is not None for row in rows}


async def test_a_second_account_that_fails_at_a_partner_involves_it_until_both_have_recovered(
    worker_db: Database,
) -> None:
    partner = await make.partner(worker_db)
    first, second = await make.account(worker_db), await make.account(worker_db)
    one = await falls(worker_db, first, partner, minute=2)
    await follow(worker_db, first)
    assert await incidents(worker_db) == {f"account:{first.id}": False}

    two = await falls(worker_db, second, partner, minute=4)
    await follow(worker_db, second)
    assert await incidents(worker_db) == {f"account:{first.id}": False, f"partner:{partner.id}": False}
    async with worker_db.read() as session:
        assert list(await session.scalars(select(IncidentPartner.partner_id))) == [partner.id]

    await recovers(worker_db, one, minute=20)
    await follow(worker_db, first)
    assert await incidents(worker_db) == {f"account:{first.id}": True, f"partner:{partner.id}": False}

    await recovers(worker_db, two, minute=30)
    await follow(worker_db, second)
    assert await incidents(worker_db) == {f"account:{first.id}": True, f"partner:{partner.id}": True}


async def test_an_account_whose_own_incident_is_open_already_involves_the_partner_beside_it(
    worker_db: Database,
) -> None:
    partner = await make.partner(worker_db)
    first, second = await make.account(worker_db), await make.account(worker_db)
    async with worker_db.transaction() as session:
        series = await make.series(session, second, "completion_rate", country="GB")
        small = await make.anomaly(session, series, started_at=NOON, detected_at=NOON + MINUTE, cause={})
    await follow(worker_db, second)
    await falls(worker_db, first, partner, minute=2)
    await follow(worker_db, first)
    two = await falls(worker_db, second, partner, minute=4)
    await follow(worker_db, second)
    assert await incidents(worker_db) == {
        f"account:{second.id}": False,
        f"account:{first.id}": False,
        f"partner:{partner.id}": False,
    }
    async with worker_db.read() as session:
        rows = [await session.get_one(Anomaly, anomaly.id) for anomaly in (small, two)]
        assert rows[0].incident_id == rows[1].incident_id


async def test_of_one_minute_the_slice_that_names_the_partner_decides(worker_db: Database) -> None:
    partner = await make.partner(worker_db)
    first, second = await make.account(worker_db), await make.account(worker_db)
    await falls(worker_db, first, partner, minute=2)
    await follow(worker_db, first)
    async with worker_db.transaction() as session:
        for labels in ({"country": "GB"}, {"partner": partner.code}):
            series = await make.series(session, second, "authorization_rate", **labels)
            await make.anomaly(session, series, started_at=NOON, detected_at=NOON + 5 * MINUTE, cause=labels)
    await follow(worker_db, second)
    assert await incidents(worker_db) == {f"account:{first.id}": False, f"partner:{partner.id}": False}
