"""What a fold leaves marks of: how far each source has come, which days changed, what must be rolled up."""

from collections.abc import Sequence
from datetime import date, datetime
from typing import Protocol
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray

from domain.telemetry import steps
from domain.telemetry.blocks import SHARD
from domain.telemetry.columns import Columns
from domain.telemetry.minutes import DAY_S, time

# A source that was forgotten, being long out of use, moves none.
_MOVE = """
INSERT INTO watermarks (account_id, source, oldest_at, newest_at, received_at)
SELECT w.* FROM unnest($1::uuid[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::timestamptz[])
  AS w (account_id, source, oldest_at, newest_at, received_at)
JOIN sources s ON s.number = w.source
ORDER BY w.account_id, w.source
ON CONFLICT (account_id, source) DO UPDATE SET
  oldest_at = least(watermarks.oldest_at, excluded.oldest_at),
  newest_at = greatest(watermarks.newest_at, excluded.newest_at),
  received_at = greatest(watermarks.received_at, excluded.received_at)
"""
# Who packs a day looks whether it changed meanwhile: the row is locked until this is committed.
_TOUCH = """
INSERT INTO shard_days AS d (account_id, shard, day, changes, is_packed)
SELECT *, 1, false FROM unnest($1::uuid[], $2::int[], $3::date[])
ON CONFLICT (account_id, shard, day) DO UPDATE SET changes = d.changes + 1
RETURNING account_id, shard, day, is_packed
"""
_PACKED = """
SELECT w.ordinality - 1 AS place
FROM unnest($1::uuid[], $2::int[], $3::date[]) WITH ORDINALITY AS w (account_id, shard, day)
JOIN shard_days d USING (account_id, shard, day) WHERE d.is_packed ORDER BY w.day, 1
"""
# Seldom, since it is asked for days only.
_HEAR = """
UPDATE sources SET heard_at = $2 WHERE number = ANY ($1) AND heard_at < $2::timestamptz - interval '1 hour'
"""
# A window that is marked already is held too: it must not be rolled up before this is committed.
_SOIL = """
INSERT INTO dirty_windows (account_id, step, at)
SELECT * FROM unnest($1::uuid[], $2::int[], $3::timestamptz[])
ON CONFLICT (account_id, step, at) DO UPDATE SET at = excluded.at
"""


# Two numbers in one, which sorts much faster than pairs: windows are fewer than 2^36.
_BITS, _LOW = 36, (1 << 36) - 1

ShardDay = tuple[UUID, int, date]
"""An account, a shard of it, and a day (UTC)."""


class Received(Protocol):
    """A batch as far as it matters here."""

    @property
    def received_at(self) -> datetime: ...
    @property
    def is_backfill(self) -> bool: ...


async def move(
    connection: asyncpg.Connection, points: Columns, batches: Sequence[Received], batch: NDArray[np.int64]
) -> None:
    """Move the watermarks; `batch[i]` is that of point i. Backfilled points are history and move none."""
    is_live = ~np.array([one.is_backfill for one in batches])[batch]
    if not is_live.any():
        return
    received = np.array([one.received_at.timestamp() for one in batches])[batch]
    rank = _rank(points)
    order = np.lexsort((points.source, rank[points.account]))
    order = order[is_live[order]]
    account, source = points.account[order], points.source[order]
    starts = np.flatnonzero(np.r_[True, (np.diff(account) != 0) | (np.diff(source) != 0)])
    at = points.at[order]
    await connection.execute(
        _MOVE,
        [points.accounts[index] for index in account[starts].tolist()],
        [points.sources[index] for index in source[starts].tolist()],
        [time(second) for second in np.minimum.reduceat(at, starts).tolist()],
        [time(second) for second in np.maximum.reduceat(at, starts).tolist()],
        [time(second) for second in np.maximum.reduceat(received[order], starts).tolist()],
    )


async def hear(connection: asyncpg.Connection, points: Columns, at: datetime) -> None:
    """Note that the sources are in use."""
    await connection.execute(_HEAR, list(points.sources), at)


async def touch_days(connection: asyncpg.Connection, points: Columns) -> list[ShardDay]:
    """Count a change of each shard's day, and hold it; those of them that are packed."""
    found = sorted(_shard_days(points)[1])
    rows = await connection.fetch(_TOUCH, *map(list, zip(*found, strict=True)))
    return [(row["account_id"], row["shard"], row["day"]) for row in rows if row["is_packed"]]


async def packed(connection: asyncpg.Connection, points: Columns) -> NDArray[np.int64]:
    """For each point the number, from 1, of the packed day of a shard that it is of; 0 for the others."""
    place, days = _shard_days(points)
    rows = await connection.fetch(_PACKED, *map(list, zip(*days, strict=True)))
    number = np.zeros(len(days), np.int64)
    number[[row["place"] for row in rows]] = 1 + np.arange(len(rows))
    return number[place]


def _shard_days(points: Columns) -> tuple[NDArray[np.int64], list[ShardDay]]:
    """For each point the index of its shard's day among those of all."""
    shards, days = int(points.number.max()) // SHARD + 1, int(points.at.max()) // DAY_S + 1
    shard = points.account.astype(np.int64) * shards + points.number // SHARD
    pairs, place = np.unique(shard * days + points.at // DAY_S, return_inverse=True)
    return place, [
        (points.accounts[pair // days // shards], pair // days % shards, time(pair % days * DAY_S).date())
        for pair in pairs.tolist()
    ]


async def soil(connection: asyncpg.Connection, points: Columns) -> None:
    """Mark every window that holds any of the points."""
    zones = await steps.zones(connection, points.accounts)
    found: set[tuple[UUID, int, datetime]] = set()
    for step in (steps.FIVE_MINUTES, steps.HOUR):
        found |= {(account, step, time(second)) for account, second in _windows(points, step * 60)}
    for account, second in _windows(points, 900):  # no zone differs by less than a quarter of an hour
        found.add((account, steps.DAY, steps.midnight(time(second), zones[account])))
    await connection.execute(_SOIL, *map(list, zip(*sorted(found), strict=True)))


def _windows(points: Columns, length_s: int) -> list[tuple[UUID, int]]:
    """The accounts and beginnings (epoch seconds) of the windows of that length, in order."""
    pairs = np.unique((points.account.astype(np.int64) << _BITS) + points.at // length_s)
    return sorted(
        (points.accounts[account], window * length_s)
        for account, window in zip((pairs >> _BITS).tolist(), (pairs & _LOW).tolist(), strict=True)
    )


def _rank(points: Columns) -> NDArray[np.int64]:
    """The place of each account in the order of ids: rows are locked in it."""
    return np.argsort(np.argsort([key.bytes for key in points.accounts]))
