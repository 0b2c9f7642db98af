"""The relay: tells recorded events to their streams and hands tasks to the broker. Safe in twos.

Postgres is the truth. NOTIFY only wakes: without it all is found by looking each second. A broker that
is away, or hangs, stops neither the streams nor what is to be sent later.
"""

import asyncio
import logging
import signal
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
from sqlalchemy import make_url
from sqlalchemy.exc import DBAPIError

from domain.core.db import Database, listen
from domain.core.events import WAKE
from domain.core.settings import APP, WORKER, Settings
from domain.delivery import streams
from domain.delivery.streams import Published
from domain.incidents import feed
from workers import dispatch
from workers.app import make_app
from workers.dispatch import Broker, BrokerAway

BATCH = 100
OTHERS_AFTER = timedelta(seconds=10)
"""Who publishes an event sends its tasks; when it has not by then, anyone does."""
_POLL_S, _SPACING_S = 1.0, 0.2
_BACK_OFF_S, _MOST_BACK_OFF_S = 0.25, 5.0
# Everything that a server's restart or a lost network looks like.
_PASSING = (
    OSError,
    DBAPIError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    BrokerAway,
)

log = logging.getLogger(__name__)


class Relay:
    """One relay process's work, in the event loop that runs it."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._db = Database(settings.worker_database_url, WORKER, pool_size=3)
        self._broker = Broker(make_app(settings))
        self._watches = dispatch.watches()
        self._fresh: dict[UUID, Published] = {}
        self._to_publish, self._to_dispatch = asyncio.Event(), asyncio.Event()
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Work until `stop`; what cannot pass by itself is raised."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._keep("listening", self._listen, self._stopping))
                group.create_task(self._keep("publishing", self._publish, self._to_publish))
                group.create_task(self._keep("dispatching", self._dispatch, self._to_dispatch))
        finally:
            await asyncio.to_thread(self._broker.close)
            await self._db.dispose()

    def stop(self) -> None:
        """End each kind of work with the step that it is at."""
        self._stopping.set()
        self._wake()

    def _wake(self, *_: object) -> None:
        self._to_publish.set()
        self._to_dispatch.set()

    async def _keep(self, name: str, step: Callable[[], Awaitable[None]], wake: asyncio.Event) -> None:
        """Take one step after the other: when woken, each _POLL_S, and later and later after failures."""
        failures = 0
        while not self._stopping.is_set():
            if wake is not self._stopping:
                wake.clear()
            try:
                await step()
                failures = 0
            except _PASSING as error:
                log.warning("%s failed and will be tried again: %s", name, error)
                pause = min(_BACK_OFF_S * 2**failures, _MOST_BACK_OFF_S)
                failures += 1
                await _first(pause, self._stopping)
            else:
                await _first(_POLL_S, wake)

    async def _listen(self) -> None:
        """Be woken by commits until the connection is lost."""
        url = self._settings.direct_database_url
        connection = await listen(url, make_url(url).username or APP)
        try:
            lost = asyncio.Event()
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(WAKE, self._wake)
            self._wake()
            log.info("listening")
            await _first(None, lost, self._stopping)
        finally:
            connection.terminate()

    async def _publish(self) -> None:
        """Publish all there is; one transaction a batch."""
        while not self._stopping.is_set():
            async with self._db.transaction() as session:
                published = await feed.publish(session, limit=BATCH, at=_now())
            if not published:
                return
            self._fresh.update((event.id, event) for event in published)
            self._to_dispatch.set()

    async def _dispatch(self) -> None:
        """Send the tasks of events, and of what waits in tables, then note that they were sent.

        Nothing is open while it sends. What is not sent is found in the table again, by any relay.
        """
        events, self._fresh = self._fresh, {}
        calls: list[dispatch.Call | None] = []
        async with self._db.read() as session:
            left = await streams.undispatched(session, before=_now() - OTHERS_AFTER, limit=BATCH)
            if len(left) == BATCH:
                self._to_dispatch.set()
            events.update((event.id, event) for event in left)
            for watch in self._watches:
                calls.append(await watch.look(session, _now(), clock=time.monotonic()))
        to_send = [*dispatch.called_for(events.values()), *(call for call in calls if call)]
        if to_send:
            await asyncio.to_thread(self._broker.send, to_send)
        if events:
            async with self._db.transaction() as session:
                await streams.mark_dispatched(session, list(events), at=_now())
        await _first(_SPACING_S, self._stopping)


async def _first(timeout_s: float | None, *events: asyncio.Event) -> None:
    """Return when one of `events` is set, or the time is over."""
    waiting = [asyncio.ensure_future(event.wait()) for event in events]
    try:
        await asyncio.wait(waiting, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for one in waiting:
            one.cancel()


def _now() -> datetime:
    return datetime.now(UTC)


async def run(settings: Settings) -> None:
    """Relay until SIGTERM or SIGINT."""
    relay = Relay(settings)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, relay.stop)
    await relay.run()


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    asyncio.run(run(Settings.load()))


if __name__ == "__main__":
    main()
