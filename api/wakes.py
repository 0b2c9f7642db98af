"""Wakes this process's subscribers when the relay has sequenced events. A wake says only: look again.

Nothing depends on it: who is not woken looks again by itself within `POLL_S`.
"""

import asyncio
import contextlib
import logging
from collections.abc import Iterator

import asyncpg

from domain.core.db import listen
from domain.delivery.streams import WAKE

POLL_S = 5.0
_RETRY_S = 1.0
# The last is a connection that was lost between the messages of one query.
_PASSING = (
    OSError,
    TimeoutError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)

log = logging.getLogger(__name__)


class Wakes:
    """One connection of its own that listens, for however many subscribers."""

    def __init__(self, url: str, role: str) -> None:
        self._url, self._role = url, role
        self._bells: set[asyncio.Event] = set()
        self._task: asyncio.Task[None] | None = None
        self.is_listening = False

    def start(self) -> None:
        self._task = asyncio.create_task(self._listen(), name="wakes")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    @contextlib.contextmanager
    def bell(self) -> Iterator[asyncio.Event]:
        """An event that is set at each wake. Clear it before looking, so that no wake is missed."""
        bell = asyncio.Event()
        self._bells.add(bell)
        try:
            yield bell
        finally:
            self._bells.discard(bell)

    @property
    def readers(self) -> int:
        return len(self._bells)

    def ring(self) -> None:
        for bell in self._bells:
            bell.set()

    async def _listen(self) -> None:
        while True:
            try:
                await self._listen_once()
            except _PASSING as error:
                log.warning("Listening for events failed, trying again: %s", error)
            await asyncio.sleep(_RETRY_S)

    async def _listen_once(self) -> None:
        """Listen until the connection ends."""
        connection = await listen(self._url, self._role)
        ended = asyncio.Event()
        connection.add_termination_listener(lambda _: ended.set())
        try:
            await connection.add_listener(WAKE, lambda *_: self.ring())
            self.is_listening = True
            # What was sequenced while nobody listened.
            self.ring()
            await ended.wait()
        finally:
            self.is_listening = False
            await connection.close(timeout=1)
