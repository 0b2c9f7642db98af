"""What idempotency costs: requests taken with their keys, and the same without, in turns.

Both decode, place and encode bodies of OTLP protobuf and write GROUPED of them a transaction, in this
process, in LANES at once as the API does it. With keys, body and key are hashed and the key is inserted
beside the points; without, the log alone is written. Keys are new each time.
"""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from itertools import cycle, islice

import asyncpg

from domain.core.db import Database
from domain.core.ids import uuid7
from domain.core.settings import APP, Settings
from domain.telemetry import columns
from domain.telemetry.batches import Entry, Line
from domain.telemetry.columns import Columns
from domain.telemetry.formats import Generation, Otlp
from domain.telemetry.ingest import Request, hashed

GROUPED, LANES = 4, 2
_ROUNDS, _GROUPS = 25, 24
_LOG = """
WITH scope AS MATERIALIZED (SELECT set_config('vitals.scope', 'log', true))
INSERT INTO ingest_log (received_at, backfill, points, columns)
SELECT a.received_at, a.backfill, a.points, ($4::bytea[])[a.place]
FROM scope, unnest($1::timestamptz[], $2::boolean[], $3::int[])
  WITH ORDINALITY AS a (received_at, backfill, points, place) ORDER BY a.place
"""

Take = Callable[[Sequence[bytes]], Awaitable[None]]


async def ratio(settings: Settings, bodies: Sequence[bytes]) -> float:
    """Points a second with keys, of those without: the median of rounds of _GROUPS each way."""
    db = Database(settings.database_url, APP)
    groups = [bodies[first : first + GROUPED] for first in range(0, len(bodies), GROUPED)]
    try:
        async with AsyncExitStack() as stack:
            lanes = [await stack.enter_async_context(_lane(settings, db)) for _ in range(LANES)]
            found = [await _round(lanes, groups) for _ in range(1 + _ROUNDS)]
        return statistics.median(found[1:])
    finally:
        await db.dispose()


async def _round(lanes: Sequence["_Lane"], groups: Sequence[Sequence[bytes]]) -> float:
    without = await _elapsed_s([lane.without for lane in lanes], groups)
    return without / await _elapsed_s([lane.with_keys for lane in lanes], groups)


async def _elapsed_s(lanes: Sequence[Take], groups: Sequence[Sequence[bytes]]) -> float:
    source, began = islice(cycle(groups), _GROUPS), time.perf_counter()

    async def take_on(take: Take) -> None:
        for group in source:
            await take(group)

    await asyncio.gather(*map(take_on, lanes))
    return time.perf_counter() - began


@asynccontextmanager
async def _lane(settings: Settings, db: Database) -> AsyncIterator["_Lane"]:
    line = Line(db)
    async with db.engine.connect() as connection:
        yield _Lane(settings, db, line, (await connection.get_raw_connection()).driver_connection)
    await line.close()


class _Lane:
    """Takes groups of bodies, either way."""

    def __init__(self, settings: Settings, db: Database, line: Line, plain: asyncpg.Connection) -> None:
        self._line, self._plain = line, plain
        self._generation = Generation(db, settings)
        self._format = Otlp(as_json=False)

    async def with_keys(self, bodies: Sequence[bytes]) -> None:
        entries = await asyncio.gather(*map(self._entry, bodies))
        assert all(one.is_new for one in await self._line.write(entries))

    async def without(self, bodies: Sequence[bytes]) -> None:
        rows = await asyncio.gather(*map(self._row, bodies))
        await self._plain.execute(_LOG, *zip(*rows, strict=True))

    async def _entry(self, body: bytes) -> Entry:
        request = _request(body, await hashed(body))
        batch = await self._read(request)
        return Entry(
            key=request.key,
            scope=request.scope,
            body_hash=request.body_hash,
            reply=self._format.reply(len(batch), []),
            received_at=request.received_at,
            is_backfill=False,
            points=len(batch),
            columns=columns.encode(batch),
        )

    async def _row(self, body: bytes) -> tuple[datetime, bool, int, bytes]:
        request = _request(body, b"")
        batch = await self._read(request)
        self._format.reply(len(batch), [])
        return request.received_at, False, len(batch), columns.encode(batch)

    async def _read(self, request: Request) -> Columns:
        sender, at = request.sender, request.received_at
        decoded = await self._format.read(self._generation, request.body, sender, at=at)
        return (await self._generation.registry.place(decoded, sender, at=at)).columns


def _request(body: bytes, body_hash: bytes) -> Request:
    return Request(
        scope="ingest",
        subject="benchmark",
        body=body,
        body_hash=body_hash,
        idempotency_key=str(uuid7()),
        is_backfill=False,
        received_at=datetime.now(UTC),
    )
