"""What one process takes on at once. What is beyond is refused before its body is read, and never queued."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from domain.core.db import Database
from domain.telemetry import outages
from domain.telemetry.outages import Unavailable

MOST_REQUESTS = 1_000
_LOOK_S = 1.0
_BUSY_S, _BEHIND_S = 1, 30

log = logging.getLogger(__name__)


class Room:
    """The bytes that one request holds."""

    def __init__(self, admission: "Admission") -> None:
        self._admission = admission
        self.bytes = 0

    def take(self, size: int) -> None:
        """Hold so many more; raises Unavailable where others leave no room for them."""
        admission = self._admission
        others = admission.bytes - self.bytes
        if others and admission.bytes + size > admission.most_bytes:
            raise Unavailable("Nothing was taken: too many requests are being read.", retry_after_s=_BUSY_S)
        self.bytes += size
        admission.bytes += size


class Admission:
    """Counts what is in work; from `start` to `stop` it watches whether the log is folded."""

    def __init__(self, db: Database, *, most_bytes: int, most_lag: timedelta) -> None:
        self._db, self._most_lag = db, most_lag
        self.most_bytes = most_bytes
        self.bytes = self.requests = 0
        self._oldest_at: datetime | None = None
        self._watching: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watching = asyncio.create_task(self._keep_looking())

    async def stop(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)

    @contextmanager
    def enter(self, at: datetime) -> Iterator[Room]:
        """Room for one request, given back at the end; raises Unavailable."""
        if self._oldest_at is not None and at - self._oldest_at > self._most_lag:
            behind = "Nothing was taken: what was taken before waits too long to be worked off."
            raise Unavailable(behind, retry_after_s=_BEHIND_S)
        if self.requests >= MOST_REQUESTS:
            raise Unavailable("Nothing was taken: too many requests are being read.", retry_after_s=_BUSY_S)
        room = Room(self)
        self.requests += 1
        try:
            yield room
        finally:
            self.requests -= 1
            self.bytes -= room.bytes

    async def look(self) -> None:
        """See how far the workers are behind."""
        async with self._db.engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None, "it is connected"
            self._oldest_at = await driver.fetchval("SELECT oldest_logged()")

    async def _keep_looking(self) -> None:
        while True:
            try:
                with outages.told():
                    await self.look()
            except Unavailable as error:
                # Requests find out by themselves that nothing can be written.
                log.warning("Nobody knows how far the log is folded: %r", error.__cause__)
            await asyncio.sleep(_LOOK_S)
