"""A packed day read into arrays, ours against narrow rows: PRIMARY KEY (series, ts), value float8.

The rows hold the day in sums of five minutes, wherever there is data. Both are read by asyncpg with prepared
statements on connections that are open, into an array of SERIES × 288, and must come to the same.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from uuid import UUID

import asyncpg
import numpy as np
from asyncpg.prepared_stmt import PreparedStatement
from numpy.typing import NDArray
from sqlalchemy.ext.asyncio import AsyncSession

from benchmarks.filling import Filled
from domain.core.db import raw
from domain.telemetry import chunks, reading, steps

SERIES, TIMES = 8, 288
_REPETITIONS = 60
_LENGTH_S = 300
_CREATE = "CREATE TABLE narrow (series int, ts timestamptz, value float8, PRIMARY KEY (series, ts))"
_NARROW = """
SELECT series, extract(epoch FROM ts)::float8, value FROM narrow
WHERE series = ANY ($1::int[]) AND ts >= $2 AND ts < $3
"""
_CHUNKS = "SELECT number, cells FROM chunks WHERE account_id = $1 AND number = ANY ($2::int[]) AND day = $3"

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Read = Callable[["_Asked"], Awaitable[Floats]]


@dataclass(frozen=True)
class _Asked:
    """Series of one account: their numbers there, and those that they have in `narrow`; both rise."""

    account: UUID
    numbers: Ints
    series: Ints


@dataclass(frozen=True)
class _Day:
    """The series of a day: i is the series i of `narrow`. `sums` has what each came to every five minutes."""

    begin: datetime
    accounts: NDArray[np.object_]
    numbers: Ints
    sums: Floats
    counts: Ints

    def fullest(self) -> dict[UUID, Ints]:
        """By account, those with data at nearly as many times as any; of accounts with enough of them."""
        filled = (self.counts > 0).sum(axis=1)
        full = np.flatnonzero(filled >= 0.9 * np.sort(filled)[-SERIES:].min())
        found = {key: full[self.accounts[full] == key] for key in dict.fromkeys(self.accounts.tolist())}
        return {key: series for key, series in found.items() if len(series) >= SERIES}


async def compare(filled: Filled, url: str, begin: datetime) -> dict[str, float]:
    """How many times faster than the rows: through the read path, from minutes, and of chunks alone."""
    connection = await asyncpg.connect(url)
    try:
        day = await _day(connection, begin)
        await _fill(connection, day)
        rows = await connection.prepare(_NARROW)
        async with filled.app.read("operator") as session:
            ways: dict[str, Read] = {
                "narrow": lambda asked: _of_rows(rows, asked, begin),
                "rollups": lambda asked: _by_product(session, asked, begin, step=steps.FIVE_MINUTES),
                "minutes": lambda asked: _by_product(session, asked, begin, step=steps.MINUTE),
            }
            chunk = await (await raw(session)).prepare(_CHUNKS)
            ways["chunks"] = lambda asked: _of_chunks(chunk, asked, begin)
            return await _compare(ways, day)
    finally:
        await connection.close()


async def _compare(ways: dict[str, Read], day: _Day) -> dict[str, float]:
    elapsed: dict[str, list[float]] = {name: [] for name in ways}
    rng, fullest = np.random.default_rng(1), day.fullest()
    accounts = list(fullest)
    for _ in range(_REPETITIONS):
        account = accounts[rng.integers(len(accounts))]
        series = np.sort(rng.choice(fullest[account], SERIES, replace=False))
        asked = _Asked(account, day.numbers[series], series)
        for name, read in ways.items():
            began = time.perf_counter()
            found = await read(asked)
            elapsed[name].append(time.perf_counter() - began)
            assert np.allclose(found, day.sums[series]), name
    took = {name: median(samples) for name, samples in elapsed.items()}
    return {
        "read_ratio": round(took["narrow"] / took["rollups"], 2),
        "read_ratio_minutes": round(took["narrow"] / took["minutes"], 2),
        "read_ratio_chunks": round(took["narrow"] / took["chunks"], 2),
        "read_narrow_ms": round(took["narrow"] * 1e3, 3),
        "read_ms": round(took["rollups"] * 1e3, 3),
    }


async def _of_rows(statement: PreparedStatement, asked: _Asked, begin: datetime) -> Floats:
    rows = await statement.fetch(asked.series.tolist(), begin, begin + timedelta(days=1))
    row = np.searchsorted(asked.series, [one[0] for one in rows])
    column = (np.array([one[1] for one in rows]) - begin.timestamp()) // _LENGTH_S
    found = np.zeros((SERIES, TIMES))
    found[row, column.astype(np.int64)] = [one[2] for one in rows]
    return found


async def _of_chunks(statement: PreparedStatement, asked: _Asked, begin: datetime) -> Floats:
    rows = await statement.fetch(asked.account, asked.numbers.tolist(), begin.date())
    points = chunks.decode([row["cells"] for row in rows])
    row = np.searchsorted(asked.numbers, [row["number"] for row in rows])[points.chunk]
    found = np.zeros(SERIES * TIMES)
    np.add.at(found, row * TIMES + points.minute // 5, points.value)
    return found.reshape(SERIES, TIMES)


async def _by_product(session: AsyncSession, asked: _Asked, begin: datetime, *, step: int) -> Floats:
    edges = int(begin.timestamp()) + np.arange(TIMES + 1) * _LENGTH_S
    members = [(asked.account, number) for number in asked.numbers.tolist()]
    return (await reading.read(session, members, edges, step=step)).value


async def _day(connection: asyncpg.Connection, begin: datetime) -> _Day:
    rows = await connection.fetch(
        "SELECT account_id, number, cells FROM chunks WHERE day = $1 ORDER BY account_id, number",
        begin.date(),
    )
    points = chunks.decode([row["cells"] for row in rows])
    cell, size = points.chunk * TIMES + points.minute // 5, len(rows) * TIMES
    return _Day(
        begin=begin,
        accounts=np.array([row["account_id"] for row in rows], object),
        numbers=np.array([row["number"] for row in rows]),
        sums=np.bincount(cell, points.value, size).astype(np.float64).reshape(-1, TIMES),
        counts=np.bincount(cell, minlength=size).reshape(-1, TIMES),
    )


async def _fill(connection: asyncpg.Connection, day: _Day) -> None:
    """In the order of time, as rows come."""
    await connection.execute(_CREATE)
    at, series = np.nonzero(day.counts.T)
    records = (
        (one, day.begin + timedelta(seconds=_LENGTH_S * index), day.sums[one, index])
        for index, one in zip(at.tolist(), series.tolist(), strict=True)
    )
    await connection.copy_records_to_table("narrow", records=records)
    await connection.execute("VACUUM ANALYZE narrow")
