"""Folds the log into minutes: each logged batch exactly once, in the order of the log."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg
import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.core.db import Database, raw
from domain.telemetry import columns, series
from domain.telemetry.columns import Columns, CorruptBatch, Key
from domain.telemetry.models import IngestLog
from domain.telemetry.points import Mode

log = logging.getLogger(__name__)
_BATCHES, _POINTS = 256, 100_000
_LOCK = "telemetry.fold"

_UPSERT = """
INSERT INTO minutes (account_id, series_id, source_id, at, value, count)
SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::timestamptz[], $5::float8[], $6::bigint[])
ON CONFLICT (account_id, series_id, at, source_id) DO UPDATE
"""
_REPLACE = _UPSERT + "SET value = excluded.value, count = excluded.count"
_ADD = _UPSERT + "SET value = minutes.value + excluded.value, count = minutes.count + excluded.count"
_MARK = """
INSERT INTO watermarks (account_id, source_id, oldest_at, newest_at, received_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (account_id, source_id) DO UPDATE SET
  oldest_at = least(watermarks.oldest_at, excluded.oldest_at),
  newest_at = greatest(watermarks.newest_at, excluded.newest_at),
  received_at = greatest(watermarks.received_at, excluded.received_at)
"""
# An hour that is marked already is held too: it must not be rolled up before this is committed.
_DIRTY = """
INSERT INTO dirty_hours (account_id, at)
SELECT * FROM unnest($1::uuid[], $2::timestamptz[])
ON CONFLICT (account_id, at) DO UPDATE SET at = excluded.at
"""


@dataclass(frozen=True)
class Minutes:
    """Distinct minutes, of `keys[key[i]]` at epoch second `at[i]`: what to write, and how."""

    keys: tuple[Key, ...]
    key: NDArray[np.int32]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    count: NDArray[np.int64]
    replaces: NDArray[np.bool_]


def merge(batches: Sequence[Columns]) -> Minutes:
    """What batches applied one after the other come to, for each minute of each series and source."""
    table: dict[Key, int] = {}
    for batch in batches:
        for name in batch.keys:
            table.setdefault(name, len(table))
    key = np.concatenate([np.array([table[k] for k in b.keys], np.int32)[b.key] for b in batches])
    at, value, count, mode = (
        np.concatenate([getattr(b, name) for b in batches]) for name in ("at", "value", "count", "mode")
    )
    order = np.lexsort((np.arange(len(key)), at, key))
    key, at, value, count = key[order], at[order], value[order], count[order]
    replacing = mode[order] == Mode.REPLACE
    first = np.r_[True, (key[1:] != key[:-1]) | (at[1:] != at[:-1])]
    group = np.cumsum(first) - 1
    # What stands before the last replacement of a minute is without effect.
    position = np.arange(len(key))
    last = np.full(group[-1] + 1, -1)
    np.maximum.at(last, group[replacing], position[replacing])
    counts = position >= last[group]
    return Minutes(
        keys=tuple(table),
        key=key[first],
        at=at[first],
        value=np.bincount(group, np.where(counts, value, 0.0)).astype(np.float64),
        count=np.bincount(group, np.where(counts, count, 0)).astype(np.int64),
        replaces=last >= 0,
    )


async def fold(db: Database, at: datetime) -> int:
    """Fold the oldest batches of the log; the number of points folded, 0 when none wait or another folds."""
    async with db.transaction() as session:
        if not await session.scalar(select(func.pg_try_advisory_xact_lock(func.hashtext(_LOCK)))):
            return 0
        logged = await _oldest(session)
        if not logged:
            return 0
        logged, batches = _decode(logged)
        if batches:
            await _fold(session, logged, batches, at=at)
    return sum(row.points for row in logged)


def _decode(logged: Sequence[IngestLog]) -> tuple[list[IngestLog], list[Columns]]:
    """What can be read; what cannot is put aside, so that it does not hold back the others for ever."""
    readable, batches = [], []
    for row in logged:
        try:
            batches.append(columns.decode(row.columns))
            readable.append(row)
        except CorruptBatch as error:
            row.failure = str(error)
            log.error("Batch %d of the log, of %d points, is put aside: %s", row.id, row.points, error)
    return readable, batches


async def _fold(
    session: AsyncSession, logged: Sequence[IngestLog], batches: Sequence[Columns], *, at: datetime
) -> None:
    connection = await raw(session)
    minutes = merge(batches)
    await _make_partitions(connection, minutes.at)
    await _write(connection, minutes)
    await _mark(connection, logged, batches)
    await _dirty(connection, minutes)
    await series.watch(session, {key.series_id for key in minutes.keys}, at=at)
    await session.execute(
        text("DELETE FROM ingest_log WHERE id = ANY(:ids)"), {"ids": [r.id for r in logged]}
    )


async def _oldest(session: AsyncSession) -> list[IngestLog]:
    waiting = select(IngestLog).where(IngestLog.failure.is_(None)).order_by(IngestLog.id).limit(_BATCHES)
    rows = (await session.scalars(waiting)).all()
    sizes = np.cumsum([row.points for row in rows])
    return [row for row, size in zip(rows, sizes, strict=True) if size <= _POINTS] or list(rows[:1])


async def _make_partitions(connection: asyncpg.Connection, at: NDArray[np.int64]) -> None:
    days = [datetime.fromtimestamp(day * 86_400, UTC).date() for day in np.unique(at // 86_400).tolist()]
    await connection.execute("SELECT make_minutes_partitions($1)", days)


async def _write(connection: asyncpg.Connection, minutes: Minutes) -> None:
    for statement, chosen in ((_REPLACE, minutes.replaces), (_ADD, ~minutes.replaces)):
        if chosen.any():
            keys = [minutes.keys[index] for index in minutes.key[chosen].tolist()]
            await connection.execute(
                statement,
                [key.account_id for key in keys],
                [key.series_id for key in keys],
                [key.source_id for key in keys],
                [_time(second) for second in minutes.at[chosen].tolist()],
                minutes.value[chosen].tolist(),
                minutes.count[chosen].tolist(),
            )


async def _mark(
    connection: asyncpg.Connection, logged: Sequence[IngestLog], batches: Sequence[Columns]
) -> None:
    """Move the watermarks; backfilled points are history and move none."""
    marks: dict[tuple[UUID, UUID], list[tuple[int, int, datetime]]] = {}
    for row, batch in zip(logged, batches, strict=True):
        if row.backfill:
            continue
        oldest = np.full(len(batch.keys), np.iinfo(np.int64).max)
        newest = np.full(len(batch.keys), np.iinfo(np.int64).min)
        np.minimum.at(oldest, batch.key, batch.at)
        np.maximum.at(newest, batch.key, batch.at)
        for key, first, last in zip(batch.keys, oldest.tolist(), newest.tolist(), strict=True):
            marks.setdefault((key.account_id, key.source_id), []).append((first, last, row.received_at))
    await connection.executemany(
        _MARK,
        [
            (*pair, _time(min(firsts)), _time(max(lasts)), max(received))
            for pair, seen in sorted(marks.items())
            for firsts, lasts, received in [zip(*seen, strict=True)]
        ],
    )


async def _dirty(connection: asyncpg.Connection, minutes: Minutes) -> None:
    accounts = sorted({key.account_id for key in minutes.keys})
    number = {account: index for index, account in enumerate(accounts)}
    of_key = np.array([number[key.account_id] for key in minutes.keys])
    pairs = np.unique(np.stack([of_key[minutes.key], minutes.at // 3600]), axis=1)
    await connection.execute(
        _DIRTY, [accounts[i] for i in pairs[0].tolist()], [_time(h * 3600) for h in pairs[1].tolist()]
    )


def _time(second: int) -> datetime:
    return datetime.fromtimestamp(second, UTC)
