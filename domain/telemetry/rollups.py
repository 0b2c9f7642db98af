"""Rolls minutes up to five minutes, hours and days, by recomputing windows that are over.

A window is made of the windows one step below it, once none of these is dirty: what it holds depends on
the minutes alone, and not on the order in which they came.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta

import asyncpg
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.db import Database, raw
from domain.telemetry import blocks, merging, steps
from domain.telemetry.blocks import SHARD, Cells

SETTLED = timedelta(seconds=30)
"""So long after its end a window is rolled up; what comes later is rolled up again."""
_LOCK = "telemetry.roll_up"
_BLOCKS = 8_000
"""So many are read at once, unless one window has more."""
_BITS = 40  # more than an epoch second takes
_WINDOWS = {steps.FIVE_MINUTES: 256, steps.HOUR: 128, steps.DAY: 32}

# A fold holds the windows that it marks until it commits: those are left for the next time, since what it
# changes cannot be seen yet. Days are 23 to 25 hours long.
_HOLD = """
SELECT account_id, at FROM dirty_windows d
WHERE step = $1 AND at <= $2 AND NOT EXISTS (
  SELECT FROM dirty_windows finer WHERE finer.account_id = d.account_id AND finer.step < $1
  AND finer.at >= d.at AND finer.at < d.at + $3::interval)
ORDER BY at, account_id LIMIT $4 FOR UPDATE SKIP LOCKED
"""
# Once they are held it is looked again, by a statement of its own: a fold may have marked a finer window and
# committed between that look and the hold. From now on folds wait to mark these.
_TAKE = """
DELETE FROM dirty_windows d USING unnest($2::uuid[], $3::timestamptz[]) AS held (account_id, at)
WHERE d.account_id = held.account_id AND d.step = $1 AND d.at = held.at AND NOT EXISTS (
  SELECT FROM dirty_windows finer WHERE finer.account_id = d.account_id AND finer.step < $1
  AND finer.at >= d.at AND finer.at < d.at + $4::interval)
RETURNING d.account_id, d.at
"""
_WAITING = """
SELECT count(*) FROM dirty_windows d JOIN unnest($1::int[], $2::timestamptz[]) AS o (step, over)
  ON d.step = o.step AND d.at <= o.over
"""
_MINUTES = """
SELECT w.ordinality - 1 AS "window", m.shard, extract(epoch FROM m.at)::bigint AS at, m.cells
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS w (account_id, begins, ends)
JOIN minutes m ON m.account_id = w.account_id AND m.at >= w.begins AND m.at < w.ends
WHERE m.at >= $4 AND m.at < $5
"""
_FINER = """
SELECT w.ordinality - 1 AS "window", r.shard, extract(epoch FROM r.at)::bigint AS at, r.cells
FROM unnest($1::uuid[], $2::timestamptz[], $3::timestamptz[]) WITH ORDINALITY AS w (account_id, begins, ends)
JOIN rollups r ON r.account_id = w.account_id AND r.at >= w.begins AND r.at < w.ends
WHERE r.at >= $4 AND r.at < $5 AND r.step = $6
"""
_MINUTE_BLOCKS = """
SELECT count(m.account_id) AS size
FROM unnest($1::uuid[], $2::timestamptz[]) WITH ORDINALITY AS w (account_id, at, place)
LEFT JOIN minutes m ON m.account_id = w.account_id AND m.at >= w.at AND m.at < w.at + $3::interval
  AND m.at >= $4 AND m.at < $5::timestamptz + $3::interval
GROUP BY w.place ORDER BY w.place
"""
_ROLLUP_BLOCKS = """
SELECT count(r.account_id) AS size
FROM unnest($1::uuid[], $2::timestamptz[]) WITH ORDINALITY AS w (account_id, at, place)
LEFT JOIN rollups r ON r.account_id = w.account_id AND r.step < 1440 AND r.at >= w.at
  AND r.at < w.at + $3::interval AND r.at >= $4 AND r.at < $5::timestamptz + $3::interval
GROUP BY w.place ORDER BY w.place
"""
_WRITE = """
INSERT INTO rollups (account_id, step, shard, at, cells)
SELECT account_id, $1, shard, at, cells
FROM unnest($2::uuid[], $3::int[], $4::timestamptz[], $5::bytea[]) AS w (account_id, shard, at, cells)
ON CONFLICT (account_id, step, shard, at) DO UPDATE SET cells = excluded.cells
"""


async def roll_up(db: Database, at: datetime) -> int:
    """Recompute windows that are over and dirty; how many, 0 when none is or another rolls up."""
    async with db.transaction() as session:
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtext(_LOCK)))):
            return 0
        connection = await raw(session)
        for step in steps.ROLLED_UP:
            if taken := await _take(connection, step, at):
                await _recompute(connection, step, taken)
                return len(taken)
    return 0


async def waiting(session: AsyncSession, at: datetime) -> int:
    """How many windows are over and dirty."""
    connection = await raw(session)
    rows = await connection.fetch(_WAITING, *_over(at))
    return int(rows[0]["count"])


def _over(at: datetime) -> tuple[list[int], list[datetime]]:
    """The steps, and for each the latest beginning of a window that is over."""
    return list(steps.ROLLED_UP), [at - SETTLED - _longest(step) for step in steps.ROLLED_UP]


def _longest(step: int) -> timedelta:
    return timedelta(minutes=step, hours=step == steps.DAY)


async def _take(connection: asyncpg.Connection, step: int, at: datetime) -> list[asyncpg.Record]:
    """Windows of one length that are over; their marks are taken away."""
    longest = _longest(step)
    over = at - SETTLED - longest
    held = await connection.fetch(_HOLD, step, over, longest, _WINDOWS[step])
    accounts, begins = [row["account_id"] for row in held], [row["at"] for row in held]
    sizes = np.cumsum(await _sizes(connection, step, accounts, begins))
    few = max(1, int(np.searchsorted(sizes, _BLOCKS, side="right")))
    rows: list[asyncpg.Record] = await connection.fetch(_TAKE, step, accounts[:few], begins[:few], longest)
    return rows


async def _sizes(
    connection: asyncpg.Connection, step: int, accounts: Sequence[object], begins: Sequence[datetime]
) -> list[int]:
    """How many blocks each window is made of, at the most."""
    statement = _MINUTE_BLOCKS if step == steps.FIVE_MINUTES else _ROLLUP_BLOCKS
    if not accounts:
        return [0]
    rows = await connection.fetch(statement, accounts, begins, _longest(step), min(begins), max(begins))
    return [row["size"] for row in rows]


async def _recompute(connection: asyncpg.Connection, step: int, taken: Sequence[asyncpg.Record]) -> None:
    accounts, begins = [row["account_id"] for row in taken], [row["at"] for row in taken]
    zones = await steps.zones(connection, accounts)
    ends = [steps.end(at, step, zones[account]) for account, at in zip(accounts, begins, strict=True)]
    rows = await _finer(connection, step, accounts, begins, ends)
    if rows:
        cells, window, shard = _summed(rows, is_minutes=step == steps.FIVE_MINUTES)
        keys = [accounts[i] for i in window], shard, [begins[i] for i in window]
        await connection.execute(_WRITE, step, *keys, blocks.encode(cells))


async def _finer(
    connection: asyncpg.Connection,
    step: int,
    accounts: Sequence[object],
    begins: Sequence[datetime],
    ends: Sequence[datetime],
) -> list[asyncpg.Record]:
    """What the windows are made of: minutes, five minutes, or hours where the local days begin with one."""
    windows = accounts, begins, ends, min(begins), max(ends)
    if step == steps.FIVE_MINUTES:
        statement, finer = _MINUTES, tuple[int, ...]()
    else:
        in_hours = step == steps.DAY and all(at.minute == 0 for at in (*begins, *ends))
        statement, finer = _FINER, (steps.HOUR if in_hours else steps.FIVE_MINUTES,)
    rows: list[asyncpg.Record] = await connection.fetch(statement, *windows, *finer)
    return rows


def _summed(rows: Sequence[asyncpg.Record], *, is_minutes: bool) -> tuple[Cells, list[int], list[int]]:
    """A block for each window and shard: its cells, the windows and the shards of the blocks."""
    cells = blocks.decode([row["cells"] for row in rows], [row["shard"] for row in rows])
    window = np.array([row["window"] for row in rows])
    if is_minutes:
        cells, window = _with_minutes_counted(cells, window, np.array([row["at"] for row in rows]))
    shards = int(cells.number.max()) // SHARD + 1
    joint = window[cells.block] * shards + (cells.number // SHARD).astype(np.int64)
    summed = merging.add(cells.placed(joint))
    found = np.unique(summed.block)
    return summed, (found // shards).tolist(), (found % shards).tolist()


def _with_minutes_counted(
    cells: Cells, window: NDArray[np.int64], at: NDArray[np.int64]
) -> tuple[Cells, NDArray[np.int64]]:
    """The sum over the sources of each minute, in which what has no observations counts as one."""
    pairs, of_row = np.unique((window << _BITS) + at, return_inverse=True)
    summed = merging.add(cells.placed(of_row[cells.block]))
    return blocks.counted(summed), pairs >> _BITS
