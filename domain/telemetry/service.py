"""Keeps telemetry in shape: partitions made ahead and dropped, hours recomputed from minutes."""

from datetime import datetime, timedelta

from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.db import Database

AHEAD = timedelta(days=3)
KEEP_MINUTES = timedelta(days=90)
KEEP_BATCHES = timedelta(days=2)
_HOURS = 2_000
_LOCK = "telemetry.roll_up"

# A fold holds the hours that it marks until it commits: those are left for the next time, since what it
# changes cannot be seen yet.
_TAKE = text(
    """
    WITH taken AS (
      SELECT account_id, at FROM dirty_hours ORDER BY at, account_id LIMIT :limit FOR UPDATE SKIP LOCKED
    )
    DELETE FROM dirty_hours d USING taken WHERE d.account_id = taken.account_id AND d.at = taken.at
    RETURNING d.account_id, d.at
    """
)
# Sums are taken over all sources and minutes; a level has no observations, so its minutes are counted.
_RECOMPUTE = text(
    """
    INSERT INTO hours (account_id, series_id, at, value, count)
    SELECT m.account_id, m.series_id, h.at, sum(m.value),
           CASE WHEN sum(m.count) > 0 THEN sum(m.count) ELSE count(DISTINCT m.at) END
    FROM unnest(CAST(:accounts AS uuid[]), CAST(:hours AS timestamptz[])) AS h (account_id, at)
    JOIN minutes m ON m.account_id = h.account_id AND m.at >= h.at AND m.at < h.at + interval '1 hour'
    WHERE m.at >= :first AND m.at < CAST(:last AS timestamptz) + interval '1 hour'
    GROUP BY 1, 2, 3
    ON CONFLICT (account_id, series_id, at) DO UPDATE SET value = excluded.value, count = excluded.count
    """
)


async def roll_up(db: Database, at: datetime) -> int:
    """Recompute hours whose minutes changed; how many, 0 when none is dirty or another rolls up."""
    async with db.transaction() as session:
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtext(_LOCK)))):
            return 0
        taken = (await session.execute(_TAKE, {"limit": _HOURS})).all()
        if taken:
            hours = [row.at for row in taken]
            await session.execute(
                _RECOMPUTE,
                {
                    "accounts": [row.account_id for row in taken],
                    "hours": hours,
                    "first": min(hours),
                    "last": max(hours),
                },
            )
    return len(taken)


async def make_partitions(session: AsyncSession, at: datetime) -> None:
    """The days of minutes from yesterday to AHEAD."""
    days = [(at + timedelta(days=day)).date() for day in range(-1, AHEAD.days + 1)]
    await session.execute(text("SELECT make_minutes_partitions(:days)"), {"days": days})


async def drop_partitions(session: AsyncSession, at: datetime) -> int:
    """Drop days of minutes beyond KEEP_MINUTES and keys of batches beyond KEEP_BATCHES; the days dropped."""
    await session.execute(
        text("DELETE FROM ingest_batches WHERE received_at < :before"), {"before": at - KEEP_BATCHES}
    )
    before = (at - KEEP_MINUTES).date()
    return int(await session.scalar(text("SELECT drop_minutes_partitions(:before)"), {"before": before}) or 0)
