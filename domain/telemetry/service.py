"""Keeps telemetry in shape: partitions are made ahead, and what is older than it is kept is dropped."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.db import Database, raw
from domain.telemetry import steps
from domain.telemetry.blocks import SHARD

AHEAD = timedelta(days=3)
KEEP_MINUTES = timedelta(days=90)
KEEP_BATCHES = timedelta(days=2)
_DAYS = 64

_OLD_CHUNKS = """
WITH old AS (
  SELECT account_id, shard, day FROM shard_days WHERE day < $1 ORDER BY day LIMIT $2 FOR UPDATE SKIP LOCKED
), chunk AS (
  DELETE FROM chunks c USING old WHERE c.account_id = old.account_id AND c.day = old.day
  AND c.number >= old.shard * $3 AND c.number < (old.shard + 1) * $3
)
DELETE FROM shard_days d USING old
WHERE d.account_id = old.account_id AND d.shard = old.shard AND d.day = old.day
"""
_SHARDS = "SELECT account_id, last_number / $1 AS last_shard FROM account_series"
_OLD_ROLLUPS = """
DELETE FROM rollups WHERE account_id = $1 AND step = $2 AND shard = ANY ($3) AND at < $4
"""
_UNUSED_MARKS = "DELETE FROM watermarks WHERE received_at < $1"
_UNUSED_READINGS = """
DELETE FROM last_readings r USING sources s WHERE s.number = r.source AND s.heard_at < $1
"""
_UNUSED_SOURCES = """
DELETE FROM sources s WHERE heard_at < $1
AND NOT EXISTS (SELECT FROM watermarks w WHERE w.source = s.number)
"""


@dataclass(frozen=True)
class Keep:
    """How long each resolution is kept."""

    minutes: timedelta
    five_minutes: timedelta
    hours: timedelta
    days: timedelta


async def make_partitions(session: AsyncSession, at: datetime) -> None:
    """The days of minutes from yesterday to AHEAD."""
    days = [(at + timedelta(days=day)).date() for day in range(-1, AHEAD.days + 1)]
    await session.execute(text("SELECT make_minutes_partitions(:days)"), {"days": days})


async def drop_old(db: Database, at: datetime, keep: Keep) -> int:
    """Drop what is older than it is kept, and the keys of batches beyond KEEP_BATCHES; the days dropped.

    Each part is committed by itself: what is broken off goes on from there the next time.
    """
    before = (at - keep.minutes).date()
    async with db.transaction() as session:
        await session.execute(text("SET LOCAL lock_timeout = '2s'"))
        dropped = await session.scalar(text("SELECT drop_minutes_partitions(:before)"), {"before": before})
    while await _drop_chunks(db, before):
        pass
    async with db.transaction() as session:
        await session.execute(
            text("DELETE FROM ingest_batches WHERE received_at < :before"), {"before": at - KEEP_BATCHES}
        )
    await _forget_senders(db, at - keep.minutes)
    kept = ((steps.FIVE_MINUTES, keep.five_minutes), (steps.HOUR, keep.hours), (steps.DAY, keep.days))
    await _drop_rollups(db, [(step, at - long) for step, long in kept])
    return int(dropped or 0)


async def _drop_rollups(db: Database, before: Sequence[tuple[int, datetime]]) -> None:
    """Account by account, by the key."""
    async with db.read() as session:
        accounts = await (await raw(session)).fetch(_SHARDS, SHARD)
    for account_id, last_shard in accounts:
        async with db.transaction() as session:
            connection = await raw(session)
            for step, at in before:
                shards = list(range(last_shard + 1))
                await connection.execute(_OLD_ROLLUPS, account_id, step, shards, at)


async def _forget_senders(db: Database, before: datetime) -> None:
    """Those that were last heard of before that make room for others."""
    async with db.transaction() as session:
        connection = await raw(session)
        for statement in (_UNUSED_MARKS, _UNUSED_READINGS, _UNUSED_SOURCES):
            await connection.execute(statement, before)


async def _drop_chunks(db: Database, before: date) -> bool:
    """Whether some of the chunks of days before that were dropped."""
    async with db.transaction() as session:
        status = await (await raw(session)).execute(_OLD_CHUNKS, before, _DAYS, SHARD)
    return str(status) != "DELETE 0"
