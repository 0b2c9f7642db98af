"""Packs the minutes of days that are over into chunks, and unpacks a day into which late points come.

A minute is in a block or in a chunk, never in both: a day is packed only as it was when it was read.
"""

import logging
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from uuid import UUID

import asyncpg
import numpy as np
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from domain.core.db import Database, raw
from domain.telemetry import blocks, chunks, sketches
from domain.telemetry.blocks import SHARD, Cells
from domain.telemetry.chunks import Points
from domain.telemetry.marks import ShardDay
from domain.telemetry.minutes import DAY_S, time

SETTLED = timedelta(hours=2)
"""So long after its end a day is packed: what comes later is rare, and unpacks it."""
_DAYS = 16
_BUSY = ("55P03", "40P01")  # a lock that was not had in time, or never would be

log = logging.getLogger(__name__)

_WAITING = """
SELECT account_id, shard, day, changes FROM shard_days d
WHERE NOT is_packed AND day < $1 AND NOT EXISTS (
  SELECT FROM dirty_windows w WHERE w.account_id = d.account_id
  AND w.at > d.day::timestamp AT TIME ZONE 'UTC' - interval '26 hours'
  AND w.at < (d.day + 1)::timestamp AT TIME ZONE 'UTC')
ORDER BY day, account_id, shard LIMIT $2
"""
_MINUTES = """
SELECT shard, source, extract(epoch FROM at)::bigint AS at, cells FROM minutes
WHERE account_id = $1 AND shard = $2 AND at >= $3 AND at < $4
"""
_PACKED = """
UPDATE shard_days SET is_packed = true
WHERE account_id = $1 AND shard = $2 AND day = $3 AND changes = $4 AND NOT is_packed
"""
_FORGET_MINUTES = "DELETE FROM minutes WHERE account_id = $1 AND shard = $2 AND at >= $3 AND at < $4"
_WRITE_CHUNKS = """
INSERT INTO chunks (account_id, number, day, cells) SELECT $1, number, $2, cells
FROM unnest($3::int[], $4::bytea[]) AS w (number, cells)
"""
_TAKE_CHUNKS = """
DELETE FROM chunks WHERE account_id = $1 AND day = $2 AND number >= $3 AND number < $4 RETURNING number, cells
"""
_WRITE_MINUTES = """
INSERT INTO minutes (account_id, shard, at, source, cells)
SELECT $1, $2, * FROM unnest($3::timestamptz[], $4::int[], $5::bytea[])
"""
_UNPACKED_ONE = "SELECT EXISTS (SELECT FROM shard_days WHERE day = $1 AND NOT is_packed)"
_UNPACKED = "UPDATE shard_days SET is_packed = false WHERE account_id = $1 AND shard = $2 AND day = $3"


async def pack(db: Database, at: datetime) -> int:
    """Pack days that have settled; how many, 0 when none waits. Safe in twos and beside the fold."""
    async with db.read() as session:
        connection = await raw(session)
        waiting = await connection.fetch(_WAITING, (at - SETTLED).date(), _DAYS)
    packed = [await _pack(db, *row) for row in waiting]
    await _free(db, sorted({row["day"] for row in waiting}))
    return sum(packed)


async def _pack(db: Database, account_id: UUID, shard: int, day: date, changes: int) -> bool:
    """Whether the day was packed; it is left as it is where it has changed since."""
    begin = time(chunks.midnight(day))
    span = account_id, shard, begin, begin + timedelta(days=1)
    async with db.read() as session:
        rows = await (await raw(session)).fetch(_MINUTES, *span)
    numbers, blobs = _chunks(rows)
    async with db.transaction() as session:
        connection = await raw(session)
        if await connection.execute(_PACKED, account_id, shard, day, changes) != "UPDATE 1":
            return False
        await connection.execute(_WRITE_CHUNKS, account_id, day, numbers, blobs)
        await connection.execute(_FORGET_MINUTES, *span)
    return True


def _chunks(rows: Sequence[asyncpg.Record]) -> tuple[list[int], list[bytes]]:
    """The numbers of the series that the blocks tell of, and a chunk for each."""
    cells = blocks.decode([row["cells"] for row in rows], [row["shard"] for row in rows])
    source = np.array([row["source"] for row in rows], np.int32)[cells.block]
    minute = np.array([row["at"] for row in rows], np.int64)[cells.block] % DAY_S // 60
    order = np.lexsort((minute, source, cells.number))
    numbers, chunk = np.unique(cells.number[order], return_inverse=True)
    points = Points(
        chunk,
        source[order],
        minute[order],
        cells.value[order],
        cells.count[order],
        sketches.take(cells.sketches, order),
    )
    return numbers.tolist(), chunks.encode(points)


async def unpack(connection: asyncpg.Connection, days: Sequence[ShardDay]) -> None:
    """Put packed days back into blocks, in the caller's transaction, which holds them."""
    for account_id, shard, day in days:
        rows = await connection.fetch(_TAKE_CHUNKS, account_id, day, shard * SHARD, (shard + 1) * SHARD)
        if rows:
            await connection.execute("SELECT make_minutes_partitions($1)", [day])
            await connection.execute(_WRITE_MINUTES, account_id, shard, *_minutes(rows, day))
        await connection.execute(_UNPACKED, account_id, shard, day)


def _minutes(rows: Sequence[asyncpg.Record], day: date) -> tuple[list[datetime], list[int], list[bytes]]:
    """Minutes, sources and blobs of the blocks that a shard's chunks tell of."""
    points = chunks.decode([row["cells"] for row in rows])
    number = np.array([row["number"] for row in rows], np.int32)[points.chunk]
    order = np.lexsort((number, points.source, points.minute))
    minute, source = points.minute[order], points.source[order]
    is_first = np.r_[True, (np.diff(minute) != 0) | (np.diff(source) != 0)]
    cells = Cells(
        np.cumsum(is_first) - 1,
        number[order],
        points.value[order],
        points.count[order],
        sketches.take(points.sketches, order),
    )
    begins = chunks.midnight(day) + minute[is_first] * 60
    return [time(second) for second in begins.tolist()], source[is_first].tolist(), blocks.encode(cells)


async def _free(db: Database, days: Sequence[date]) -> None:
    """Give back the room of partitions of which every shard is packed; one that is being read keeps it."""
    for day in days:
        try:
            async with db.transaction() as session:
                if not await (await raw(session)).fetchval(_UNPACKED_ONE, day):
                    await session.execute(text("SELECT empty_minutes_partitions(:days)"), {"days": [day]})
        except DBAPIError as error:
            if getattr(error.orig, "sqlstate", None) not in _BUSY:
                raise
            log.info("The partition of %s is in use: its room is given back another time.", day)
