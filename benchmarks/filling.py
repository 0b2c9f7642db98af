"""Databases filled as the product fills them: taken in, folded, rolled up and packed, in this process."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from benchmarks.installation import database
from domain.catalog import service as catalog
from domain.catalog.entries import Catalogue
from domain.core.db import Database
from domain.core.settings import APP, WORKER, Settings
from domain.telemetry import fold as folding
from domain.telemetry import packs, rollups
from domain.telemetry.formats import Ndjson
from domain.telemetry.ingest import Intake, Request, hashed
from ops.embedded.postgres import Postgres
from ops.operator import actor

LATER = timedelta(days=2)
"""So long after the last point all of its windows are over and its day has settled."""


_FOLDED_TOGETHER = 10


class _Uncounted:
    """Counts of what was taken, which nobody reads."""

    def add(self, name: str, amount: float = 1, **labels: str) -> None:
        pass


@dataclass(frozen=True)
class Filled:
    """One database: `app` reads and takes in as the API does, `worker` folds as a worker does."""

    settings: Settings
    app: Database
    worker: Database

    async def apply(self, accounts: Catalogue) -> None:
        async with self.app.transaction("operator") as session:
            await catalog.apply(session, accounts, by=actor(), at=datetime.now(UTC))

    async def take(self, bodies: Iterable[bytes]) -> int:
        """Take NDJSON in as history, each line with its end, and fold some bodies at a time; the points."""
        intake, points = Intake(self.app, self.settings, _Uncounted()), 0
        intake.start()
        for number, body in enumerate(bodies, 1):
            await intake.take(await _history(body), Ndjson())
            points += body.count(b"\n")
            if number % _FOLDED_TOGETHER == 0:
                await self.fold()
        await intake.stop()
        await self.fold()
        return points

    async def fold(self) -> int:
        """Fold all that waits; the points folded."""
        points = 0
        while folded := await folding.fold(self.worker, datetime.now(UTC)):
            points += folded
        return points

    async def roll_up(self, at: datetime) -> int:
        """Roll up all that is over at that time; the windows recomputed."""
        windows = 0
        while rolled_up := await rollups.roll_up(self.worker, at):
            windows += rolled_up
        return windows

    async def pack(self, at: datetime) -> int:
        """Pack all days that are settled at that time; the days of shards."""
        days = 0
        while packed := await packs.pack(self.worker, at):
            days += packed
        return days


async def _history(body: bytes) -> Request:
    return Request(
        scope="ingest",
        subject="benchmark",
        body=body,
        body_hash=await hashed(body),
        idempotency_key=None,
        is_backfill=True,
        received_at=datetime.now(UTC),
    )


@asynccontextmanager
async def filled(postgres: Postgres, name: str) -> AsyncIterator[Filled]:
    """A database of that name, which is empty at first."""
    settings = await database(postgres, name)
    app = Database(settings.database_url, APP)
    worker = Database(settings.worker_database_url, WORKER, pool_size=2)
    try:
        yield Filled(settings, app, worker)
    finally:
        await asyncio.gather(app.dispose(), worker.dispose())
