"""What is wrong with one batch, account or page stops nothing else."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select, text

from domain.anomalies.service import judge
from domain.catalog.models import Account
from domain.core.db import Database
from domain.telemetry import blocks, steps
from domain.telemetry.fold import fold
from domain.telemetry.models import Rollup
from domain.telemetry.placing import Registry
from domain.telemetry.points import Point
from domain.telemetry.rollups import roll_up
from domain.telemetry.senders import Sender
from tests import make, sending
from tests.waiting import lock_is_waited_for

NINE = datetime(2026, 11, 23, 9, tzinfo=UTC)
NOW = NINE + timedelta(days=1)
MINUTE = timedelta(minutes=1)


def point(
    account: Account, at: datetime, value: float = 1, *, metric: str = "payments.count", **labels: str
) -> Point:
    return Point(
        account=account.external_id,
        metric=metric,
        at=int(at.timestamp()),
        value=value,
        labels=tuple(sorted(labels.items())),
    )


async def send(db: Database, *points: Point, subject: str = "key:a") -> None:
    await sending.send(db, *points, subject=subject, at=NOW)


async def test_more_series_than_a_statement_has_parameters_are_folded(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    for batch in range(4):
        points = [point(account, NINE, code=f"{batch}-{number}") for number in range(9_000)]
        await send(db, *points)
    assert await fold(worker_db, NOW) == 36_000


async def test_an_account_without_payments_does_not_stop_judging(db: Database, worker_db: Database) -> None:
    silent, account = await make.account(db), await make.account(db)
    await send(db, point(silent, NINE, metric="api.requests"), subject="key:a")
    await send(db, point(account, NINE, outcome="approved"), subject="key:b")
    await fold(worker_db, NOW)
    await judge(worker_db, NOW + 2 * MINUTE)
    assert await judged(worker_db, silent, account) == [NINE + MINUTE, NINE + MINUTE]


async def test_an_account_that_cannot_be_judged_does_not_stop_the_others(
    db: Database, worker_db: Database
) -> None:
    accounts = [await make.account(db, time_zone=zone) for zone in ("UTC", "Mars/Olympus", "UTC")]
    for number, account in enumerate(accounts):
        await send(db, point(account, NINE, outcome="approved"), subject=f"key:{number}")
    await fold(worker_db, NOW)
    with pytest.raises(ExceptionGroup, match="judged"):
        await judge(worker_db, NOW + 2 * MINUTE)
    assert await judged(worker_db, *accounts) == [NINE + MINUTE, None, NINE + MINUTE]


async def judged(worker_db: Database, *accounts: Account) -> list[datetime | None]:
    async with worker_db.read() as session:
        rows = await session.execute(text("SELECT account_id, judged_until FROM account_watches"))
        found = {account_id: until for account_id, until in rows}
    return [found.get(account.id) for account in accounts]


async def test_a_window_that_changes_while_it_is_rolled_up_is_rolled_up_again(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    await send(db, point(account, NINE, 5, outcome="approved"))
    await fold(worker_db, NOW)
    await send(
        db,
        point(account, NINE, 7, outcome="approved"),
        point(account, NINE, 1, outcome="approved", partner="x"),
    )
    async with worker_db.transaction() as session:
        await make.series(session, account, "payments.attempted", partner="x")
        folding = asyncio.create_task(fold(worker_db, NOW))
        await lock_is_waited_for(worker_db)
        await all_rolled_up(worker_db)
        await session.rollback()
    assert await folding == 2
    await all_rolled_up(worker_db)
    async with worker_db.read() as session:
        rows = await session.scalars(select(Rollup).where(Rollup.step == steps.HOUR))
        values = [value for row in rows for _, value, _ in blocks.rows(row.cells, shard=row.shard)]
    assert sorted(values) == [1, 7]


async def all_rolled_up(worker_db: Database) -> None:
    while await roll_up(worker_db, NOW):
        pass


async def test_a_batch_that_cannot_be_read_is_set_aside_and_the_others_are_folded(
    db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    async with db.transaction("operator") as session:
        await session.execute(
            text(
                "INSERT INTO ingest_log (received_at, backfill, points, columns) VALUES (:at, false, 1, 'x')"
            ),
            {"at": NOW},
        )
    await send(db, point(account, NINE, 5, outcome="approved"))
    assert await fold(worker_db, NOW) == 1
    assert await fold(worker_db, NOW) == 0
    async with worker_db.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM ingest_log")) == 1


async def test_an_account_that_is_far_behind_does_not_keep_the_others_waiting(
    db: Database, worker_db: Database
) -> None:
    first, behind, last = [await make.account(db, time_zone="UTC") for _ in range(3)]
    long_ago = NINE - timedelta(days=30)
    for number, (account, since) in enumerate([(first, NINE), (behind, long_ago), (last, NINE)]):
        points = [point(account, at, outcome="approved") for at in (since, NINE)]
        await send(db, *points, subject=f"key:{number}")
    await fold(worker_db, NOW)
    await judge(worker_db, NOW + 2 * MINUTE)
    async with worker_db.read() as session:
        rows = await session.execute(
            text("SELECT account_id FROM account_watches ORDER BY xmin::text::bigint")
        )
        assert [account_id for [account_id] in rows][-1] == behind.id
    assert await judged(worker_db, first, behind, last) == [NINE + MINUTE] * 3


async def test_a_sender_that_lost_an_account_can_soon_no_longer_write_to_it(db: Database) -> None:
    parent = await make.account(db)
    child = await make.account(db, parent=parent)
    registry = Registry(db)
    decoded = sending.decode([point(child, NINE)], registry.slots)

    async def refused(at: datetime) -> list[int]:
        placed = await registry.place(decoded, Sender(f"account:{parent.id}", "k"), at=at)
        return list(placed.refused)

    assert await refused(NOW) == []
    async with db.transaction("operator") as session:
        await session.execute(
            text("DELETE FROM account_tree WHERE ancestor_id = :a AND account_id = :b"),
            {"a": parent.id, "b": child.id},
        )
    assert await refused(NOW + MINUTE) == [0]
