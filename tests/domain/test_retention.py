"""Each resolution is kept as long as is said, and nothing of it any longer; senders long gone make room."""

from datetime import UTC, datetime, timedelta

from sqlalchemy import func, select

from domain.core.db import Database
from domain.telemetry import packs, service, steps
from domain.telemetry.fold import fold
from domain.telemetry.models import Chunk, Minute, Rollup, ShardDay, Source, Watermark
from domain.telemetry.points import Point
from domain.telemetry.rollups import roll_up
from domain.telemetry.service import Keep
from tests import make, sending

DAY = timedelta(days=1)
NOW = datetime(2026, 11, 23, 9, tzinfo=UTC)
KEEP = Keep(minutes=10 * DAY, five_minutes=20 * DAY, hours=30 * DAY, days=40 * DAY)


async def filled(db: Database, worker_db: Database, *, at: datetime) -> None:
    """A point an account, folded, rolled up and (of another account) packed, then."""
    for name in ("packed", "unpacked"):
        account = await make.account(db, external_id=name, time_zone="UTC")
        point = Point(account=account.external_id, metric="payments.count", at=int(at.timestamp()), value=1)
        await sending.send(db, point, at=at, subject=f"key:{name}")
        await fold(worker_db, at)
        while await roll_up(worker_db, at + 2 * DAY):
            pass
        if name == "packed":
            await packs.pack(worker_db, at + 2 * DAY)


async def kept(worker_db: Database) -> dict[str, int]:
    async with worker_db.read() as session:
        found = {
            model.__tablename__: await session.scalar(select(func.count()).select_from(model)) or 0
            for model in (Chunk, Minute, ShardDay, Source, Watermark)
        }
        for step in steps.ROLLED_UP:
            of_step = select(func.count()).select_from(Rollup).where(Rollup.step == step)
            found[str(step)] = await session.scalar(of_step) or 0
    return found


ALL = {
    "chunks": 1, "minutes": 1, "shard_days": 2, "sources": 2, "watermarks": 2, "5": 2, "60": 2, "1440": 2
}  # fmt: skip
NO_MINUTES = {"chunks": 0, "minutes": 0, "shard_days": 0, "sources": 0, "watermarks": 0}


async def test_what_is_older_than_it_is_kept_is_dropped_resolution_by_resolution(
    db: Database, worker_db: Database
) -> None:
    await filled(db, worker_db, at=NOW)
    for days, expected in (
        (9, ALL),
        (12, ALL | NO_MINUTES),
        (21, ALL | NO_MINUTES | {"5": 0}),
        (31, ALL | NO_MINUTES | {"5": 0, "60": 0}),
        (41, dict.fromkeys(ALL, 0)),
    ):
        await service.drop_old(worker_db, NOW + days * DAY, KEEP)
        assert await kept(worker_db) == expected


async def test_a_sender_that_was_forgotten_is_folded_without_a_mark(
    db: Database, worker_db: Database
) -> None:
    await filled(db, worker_db, at=NOW)
    account = await make.account(db)
    point = Point(account=account.external_id, metric="payments.count", at=int(NOW.timestamp()), value=1)
    batch = await sending.send(db, point, at=NOW)
    await service.drop_old(worker_db, NOW + 12 * DAY, KEEP)
    await sending.log(db, batch, at=NOW + 12 * DAY)
    assert await fold(worker_db, NOW + 12 * DAY) == 2
    assert (await kept(worker_db))["watermarks"] == 0
