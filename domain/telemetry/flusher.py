"""Group commit: what many requests hand in at once is written in one transaction, then each has its reply.

A request is known by its key. The same key has one effect and one reply, whichever process it comes to and
however often, and what it is told is durable.
"""

import asyncio
import logging
from collections.abc import Sequence

from sqlalchemy import text

from domain.core.db import Database
from domain.core.events import WAKE
from domain.telemetry import outages
from domain.telemetry.batches import Entry, Line, Outcome
from domain.telemetry.outages import Unavailable

MOST_GROUPED, MOST_GROUPED_BYTES = 64, 8 * 1024 * 1024
MOST_WAITING = 2_000
_FLUSHERS = 2
_WAKE_SPACING_S = 0.1

log = logging.getLogger(__name__)


class Waiting:
    """An entry whose sender waits."""

    def __init__(self, entry: Entry) -> None:
        self.entry = entry
        self.outcome: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        """Whether it was told, or its sender is gone."""
        return self.outcome.done()


class Flusher:
    """Writes what is handed in, from `start` to `stop`, in the event loop that started it."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._queue: asyncio.Queue[Waiting] = asyncio.Queue()
        self._committed, self._waking = asyncio.Event(), asyncio.Lock()
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        flushing = [asyncio.create_task(self._keep_flushing()) for _ in range(_FLUSHERS)]
        self._tasks = [*flushing, asyncio.create_task(self._keep_waking())]

    async def stop(self) -> None:
        """Return when all that was handed in is written or refused."""
        await self._queue.join()
        async with self._waking:
            for task in self._tasks:
                task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._committed.is_set():
            await self._wake()

    @property
    def waiting(self) -> int:
        """How many requests wait for a transaction."""
        return self._queue.qsize()

    async def append(self, entry: Entry) -> Outcome:
        """Return once the entry, or the first one with its key, is durable.

        Raises IdempotencyKeyReused where that one had another body, and Unavailable where the entry was
        not written, or nobody knows whether it was: sent again, it still has one effect.
        """
        if self.waiting >= MOST_WAITING:
            raise Unavailable("Nothing was taken: too many requests wait to be written.")
        waiting = Waiting(entry)
        self._queue.put_nowait(waiting)
        return (await waiting.outcome).require(entry.body_hash)

    async def _keep_flushing(self) -> None:
        line = Line(self._db)
        try:
            while True:
                group = await self._next_group()
                # Who is gone was told nothing: what it sent need not be written.
                if live := [one for one in group if not one.is_over]:
                    await _settle(line, live)
                    self._committed.set()
                for _ in group:
                    self._queue.task_done()
        finally:
            await line.close()

    async def _next_group(self) -> list[Waiting]:
        """All that wait, as far as one transaction is to hold them; one at least."""
        group = [await self._queue.get()]
        size = len(group[0].entry.columns)
        while len(group) < MOST_GROUPED and size < MOST_GROUPED_BYTES and not self._queue.empty():
            group.append(self._queue.get_nowait())
            size += len(group[-1].entry.columns)
        return group

    async def _keep_waking(self) -> None:
        """Tell the relay of what was committed: once for many, and in no writer's transaction.

        NOTIFY makes commits wait for one another. What a crash left untold the relay finds by looking.
        """
        while True:
            await self._committed.wait()
            await self._wake()
            await asyncio.sleep(_WAKE_SPACING_S)

    async def _wake(self) -> None:
        try:
            with outages.told():
                async with self._waking:
                    self._committed.clear()
                    async with self._db.transaction() as session:
                        await session.execute(text(f"NOTIFY {WAKE}"))
        except Unavailable as error:
            log.warning("The relay is not woken, and finds by itself what was written: %r", error.__cause__)


async def _settle(line: Line, group: Sequence[Waiting]) -> None:
    """Write a group and tell everyone in it. What cannot be written at all fails alone."""
    try:
        outcomes = await _write(line, [one.entry for one in group])
    except Exception as error:
        if len(group) > 1 and not isinstance(error, Unavailable):
            for one in group:
                await _settle(line, [one])
            return
        for one in group:
            if not one.is_over:
                one.outcome.set_exception(error)
    else:
        for one, outcome in zip(group, outcomes, strict=True):
            if not one.is_over:
                one.outcome.set_result(outcome)


async def _write(line: Line, entries: Sequence[Entry]) -> list[Outcome]:
    """What became of each; tried once again, since a key has one effect whatever the first attempt did."""
    try:
        return await line.write(entries)
    except Unavailable as error:
        log.warning("%d requests are written again after %r", len(entries), error.__cause__)
        return await line.write(entries)
