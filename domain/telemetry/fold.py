"""Folds the log into blocks of minutes: each logged batch exactly once, in the order of the log."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import asyncpg
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select

from domain.core.db import Database, raw
from domain.telemetry import columns, increases, marks, minutes, old_columns, packs, series
from domain.telemetry.columns import Columns, CorruptBatch
from domain.telemetry.points import Mode

log = logging.getLogger(__name__)
_BATCHES, _POINTS = 256, 200_000
_LOCK = "telemetry.fold"
_BLOCKS, _UNPACKED = 10_000, 1
"""So many blocks are written at once, and so many days of a shard unpacked: the rest stays in the log."""
_REST = "UPDATE ingest_log SET points = $2, columns = $3 WHERE id = $1"
_OLDEST = """
SELECT id, received_at, backfill, points, columns FROM ingest_log
WHERE failure IS NULL ORDER BY id LIMIT $1
"""


@dataclass(frozen=True)
class Logged:
    """A batch of the log that can be read."""

    id: int
    received_at: datetime
    is_backfill: bool
    points: Columns


async def fold(db: Database, at: datetime) -> int:
    """Fold the oldest batches of the log; the number of points folded, 0 when none wait or another folds."""
    async with db.transaction() as session:
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtext(_LOCK)))):
            return 0
        connection = await raw(session)
        rows = await _oldest(connection)
        if not rows:
            return 0
        logged = await _read(connection, rows)
        if not logged:
            return 0
        sent = columns.concat([one.points for one in logged])
        batch = np.repeat(np.arange(len(logged)), [len(one.points) for one in logged])
        is_now = await _is_done_now(connection, sent)
        now = np.flatnonzero(is_now)
        await _fold(connection, sent.take(now), logged, batch[now], at=at)
        await series.watch(session, sent.accounts, at=at)
        await _leave(connection, logged, sent, batch, is_now)
    return len(now)


async def _oldest(connection: asyncpg.Connection) -> Sequence[asyncpg.Record]:
    """As many as hold _POINTS, and one at least."""
    rows = await connection.fetch(_OLDEST, _BATCHES)
    sizes = np.cumsum([row["points"] for row in rows])
    oldest: list[asyncpg.Record] = rows[: max(1, int(np.searchsorted(sizes, _POINTS, side="right")))]
    return oldest


async def _read(connection: asyncpg.Connection, rows: Sequence[asyncpg.Record]) -> list[Logged]:
    """What can be read; what cannot is put aside, so that it does not hold back the others for ever."""
    readable = []
    for row in rows:
        try:
            points = await _decode(connection, row["columns"])
            readable.append(Logged(row["id"], row["received_at"], row["backfill"], points))
        except CorruptBatch as error:
            failed = "UPDATE ingest_log SET failure = $2 WHERE id = $1"
            await connection.execute(failed, row["id"], str(error))
            log.error("Batch %d of the log, of %d points, is put aside: %s", row["id"], row["points"], error)
    return readable


async def _decode(connection: asyncpg.Connection, batch: bytes) -> Columns:
    if columns.version(batch) == old_columns.VERSION:
        return await old_columns.translate(connection, old_columns.decode(batch))
    return columns.decode(batch)


async def _is_done_now(connection: asyncpg.Connection, sent: Columns) -> NDArray[np.bool_]:
    """Which points are folded now: those of few blocks, and of few days that must be unpacked first.

    The others stay in the log. All points of a block in one minute are done together, in their order.
    """
    packed = await marks.packed(connection, sent)
    is_now = packed <= _UNPACKED
    first = np.flatnonzero(is_now)
    is_now[first[minutes.rank(sent.take(first)) >= _BLOCKS]] = False
    return is_now


async def _leave(
    connection: asyncpg.Connection,
    logged: Sequence[Logged],
    sent: Columns,
    batch: NDArray[np.int64],
    is_now: NDArray[np.bool_],
) -> None:
    """Take what was folded out of the log."""
    left = np.unique(batch[~is_now]).tolist()
    done = [one.id for index, one in enumerate(logged) if index not in left]
    await connection.execute("DELETE FROM ingest_log WHERE id = ANY($1)", done)
    for index in left:
        rest = sent.take(np.flatnonzero(~is_now & (batch == index)))
        await connection.execute(_REST, logged[index].id, len(rest), columns.encode(rest))


async def _fold(
    connection: asyncpg.Connection,
    sent: Columns,
    logged: Sequence[Logged],
    batch: NDArray[np.int64],
    *,
    at: datetime,
) -> None:
    """Write what the points come to, and what follows of it; `batch[i]` is that of point i."""
    if not len(sent):
        return
    await marks.hear(connection, sent, at)
    await marks.move(connection, sent, logged, batch)
    points = await _with_increases(connection, sent)
    if len(points):
        days = await marks.touch_days(connection, points)
        await packs.unpack(connection, days)
        await minutes.write(connection, points)
        await marks.soil(connection, points)


async def _with_increases(connection: asyncpg.Connection, sent: Columns) -> Columns:
    """Readings of running totals become what they increased by."""
    is_reading: NDArray[np.bool_] = sent.mode == Mode.CUMULATIVE
    if not is_reading.any():
        return sent
    found = await increases.derive(connection, sent.take(np.flatnonzero(is_reading)))
    return columns.concat([sent.take(np.flatnonzero(~is_reading)), found])
