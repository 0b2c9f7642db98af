"""Batches as they are written: the key of each request and its points, in one transaction."""

import asyncio
from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection

from domain.core.db import Database, raw
from domain.core.errors import IdempotencyKeyReused
from domain.telemetry import outages

_ATTEMPT_S = 10.0

# Keys are locked in their order, so that two groups never wait for one another. The scope is set before the
# first row is there to be checked. Large columns do not pass through the sets: they are picked by place.
_WRITE = """
WITH scope AS MATERIALIZED (SELECT set_config('vitals.scope', 'log', true)),
asked AS MATERIALIZED (
  SELECT a.* FROM scope,
    unnest($1::bytea[], $2::text[], $3::bytea[], $4::text[], $5::timestamptz[], $6::boolean[], $7::int[])
    WITH ORDINALITY AS a (key, scope, body_hash, reply, received_at, backfill, points, place)
),
taken AS (
  INSERT INTO ingest_batches (key, scope, body_hash, reply, received_at)
  SELECT key, scope, body_hash, reply::jsonb, received_at FROM asked ORDER BY key
  ON CONFLICT DO NOTHING RETURNING key
),
logged AS (
  INSERT INTO ingest_log (received_at, backfill, points, columns)
  SELECT a.received_at, a.backfill, a.points, ($8::bytea[])[a.place]
  FROM asked a JOIN taken USING (key) WHERE a.points > 0 ORDER BY a.place
)
SELECT key FROM taken
"""
_EARLIER = "SELECT key, body_hash, reply::text FROM ingest_batches WHERE key = ANY ($1::bytea[])"


class Entry(NamedTuple):
    """A request as it is written: `columns` holds its `points`, `reply` is JSON."""

    key: bytes
    scope: str
    body_hash: bytes
    reply: str
    received_at: datetime
    is_backfill: bool
    points: int
    columns: bytes


class Outcome(NamedTuple):
    """What is durable of a key: the reply to the first request that had it, and whether it is this one."""

    body_hash: bytes
    reply: str
    is_new: bool

    def require(self, body_hash: bytes) -> "Outcome":
        """Itself; raises IdempotencyKeyReused where the key was first used with another body."""
        if self.body_hash != body_hash:
            raise IdempotencyKeyReused("This Idempotency-Key was used before with another body.")
        return self


class Line:
    """A connection that is kept, and opened again when it was lost."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._connection: AsyncConnection | None = None

    async def write(self, entries: Sequence[Entry]) -> list[Outcome]:
        """What is durable of each entry's key; of those with one key the first is written.

        Raises Unavailable where the database cannot write now; it may have written all the same.
        """
        with outages.told():
            try:
                async with asyncio.timeout(_ATTEMPT_S):
                    return await _write(await self._open(), entries)
            except Exception:
                await self.close(is_lost=True)
                raise

    async def _open(self) -> asyncpg.Connection:
        if self._connection is None:
            self._connection = await self._db.engine.connect()
        return (await self._connection.get_raw_connection()).driver_connection

    async def close(self, *, is_lost: bool = False) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            if is_lost:
                await connection.invalidate()
            await connection.close()


async def earlier(db: Database, key: bytes) -> Outcome | None:
    """What was taken before under this key."""
    async with db.read("log") as session:
        return (await _earlier(await raw(session), [key])).get(key)


async def _write(connection: asyncpg.Connection, entries: Sequence[Entry]) -> list[Outcome]:
    first: dict[bytes, Entry] = {}
    for entry in entries:
        first.setdefault(entry.key, entry)
    known: dict[bytes, Outcome] = {}
    # A key that is in the way may be dropped as too old before it is looked at: then it is taken.
    while missing := [entry for key, entry in first.items() if key not in known]:
        taken = await _take(connection, missing)
        known |= {key: Outcome(first[key].body_hash, first[key].reply, True) for key in taken}
        if len(taken) < len(missing):
            known |= await _taken_before(connection, [one.key for one in missing if one.key not in taken])
    return [known[e.key] if e is first[e.key] else known[e.key]._replace(is_new=False) for e in entries]


async def _take(connection: asyncpg.Connection, entries: Sequence[Entry]) -> set[bytes]:
    """Write those whose keys are new, and return these keys once they are durable."""
    rows = await connection.fetch(_WRITE, *zip(*entries, strict=True))
    return {row["key"] for row in rows}


async def _taken_before(connection: asyncpg.Connection, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
    async with connection.transaction(readonly=True):
        # In a statement of its own: the policy may look at the scope before anything else does.
        await connection.execute("SELECT set_config('vitals.scope', 'log', true)")
        return await _earlier(connection, keys)


async def _earlier(connection: asyncpg.Connection, keys: Sequence[bytes]) -> dict[bytes, Outcome]:
    rows = await connection.fetch(_EARLIER, keys)
    return {key: Outcome(body_hash, reply, False) for key, body_hash, reply in rows}
