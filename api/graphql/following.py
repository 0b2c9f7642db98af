"""Follows a stream of events from a place in it: what is there already, then what comes, without a seam.

A reader pulls: the next events are read when the last were taken, so a slow one holds no more than a batch.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncSession

from api.graphql import filters, lists
from api.graphql.context import Context
from api.graphql.lists import Asked
from api.wakes import POLL_S
from domain.access.principal import Principal
from domain.core.errors import InvalidInput
from domain.delivery import consumers
from domain.delivery import queries as delivery
from domain.delivery.queries import Gap, GapReason, Start, Told
from domain.incidents.models import Incident

BATCH = 50
SHORTEST, LONGEST = timedelta(seconds=5), timedelta(minutes=5)

log = logging.getLogger(__name__)

AskedIncidents = Asked[filters.IncidentFilter, filters.IncidentOrder]


@dataclass(frozen=True)
class GapRow:
    """Events `first` to `sequence` cannot be had."""

    sequence: int
    first: int
    reason: GapReason
    at: datetime


@dataclass(frozen=True)
class HeartbeatRow:
    sequence: int
    latest_sequence: int
    at: datetime


@dataclass(frozen=True)
class Batch:
    """The events that match, of all up to `sequence`."""

    events: Sequence[Told]
    sequence: int


def gap(start: Start, *, at: datetime) -> GapRow:
    found = start.gap or Gap(start.sequence, start.sequence, GapReason.UNKNOWN_CURSOR)
    return GapRow(sequence=found.last, first=found.first, reason=found.reason, at=at)


async def read(
    session: AsyncSession, asked: AskedIncidents, principal: Principal, sequence: int, *, limit: int
) -> Batch:
    """The next events behind `sequence`. The filter applies to what was read: sequence numbers then skip."""
    events = await delivery.after(session, principal.stream, sequence, limit=limit)
    read_to = events[-1].sequence if events else sequence
    if events and asked.filter is not None:
        subjects = {event.subject_id for event in events}
        statement = lists.all_incidents(asked).statement.with_only_columns(Incident.id)
        matching = await session.scalars(statement.where(Incident.id.in_(subjects)), principal.binds())
        wanted = set(matching)
        events = [event for event in events if event.subject_id in wanted]
    return Batch(events, read_to)


def heartbeat_seconds(every: timedelta | None) -> float | None:
    if every is not None and not SHORTEST <= every <= LONGEST:
        raise InvalidInput("`heartbeatEvery` must be from PT5S to PT5M.", path=("heartbeatEvery",))
    return every.total_seconds() if every else None


class Follower:
    """One subscriber's place in its own stream."""

    def __init__(
        self, context: Context, filter: filters.IncidentFilter | None, heartbeat_every: timedelta | None
    ) -> None:
        self._context, self._filter = context, filter
        self._every = heartbeat_seconds(heartbeat_every)
        self._stream = context.principal.stream
        self._sent = monotonic()
        self._sequence = self._latest = 0
        self._gap: GapRow | None = None

    async def begin(self, after: str | None, *, consumer: str | None = None) -> None:
        """Behind the cursor `after`, or where `consumer` has come to, or else with what comes from now on.

        InvalidInput for what is no cursor.
        """
        async with self._context.process.db.read(self._context.principal.scope) as session:
            self._latest = await delivery.latest_sequence(session, self._stream)
            if after is None and consumer is not None:
                after = await consumers.cursor(session, self._stream, consumer)
            if after is None:
                self._sequence = self._latest
                return
            start = await delivery.start(session, self._stream, after)
        self._sequence = start.sequence
        self._gap = gap(start, at=datetime.now(UTC)) if start.gap else None

    async def items(self) -> AsyncIterator[Told | GapRow | HeartbeatRow]:
        if self._gap is not None:
            yield self._gap
        with self._context.process.wakes.bell() as bell:
            while True:
                bell.clear()
                async for event in self._news():
                    self._sent = monotonic()
                    yield event
                if self._is_due():
                    self._sent = monotonic()
                    yield HeartbeatRow(self._sequence, self._latest, datetime.now(UTC))
                await _heard(bell, self._patience())

    async def _news(self) -> AsyncIterator[Told]:
        """All that is there by now; what is told of an incident is as fresh as its batch."""
        while True:
            await self._context.renew()
            try:
                batch = await self._batch()
            except (SQLAlchemyError, OSError) as error:
                log.warning("A subscriber waits for the database: %s", type(error).__name__)
                return
            for event in batch.events:
                yield event
            if batch.sequence == self._sequence:
                return
            self._sequence = batch.sequence

    async def _batch(self) -> Batch:
        context = self._context
        asked: AskedIncidents = context.asked(self._filter)
        async with context.process.db.read(context.principal.scope) as session:
            batch = await read(session, asked, context.principal, self._sequence, limit=BATCH)
            self._latest = max(
                batch.sequence,
                self._latest,
                await delivery.latest_sequence(session, self._stream) if self._every else 0,
            )
        return batch

    def _is_due(self) -> bool:
        return self._every is not None and monotonic() - self._sent >= self._every

    def _patience(self) -> float:
        if self._every is None:
            return POLL_S
        return max(0.0, min(POLL_S, self._sent + self._every - monotonic()))


async def _heard(bell: asyncio.Event, seconds: float) -> bool:
    """Wait for the bell, but not longer."""
    try:
        async with asyncio.timeout(seconds):
            return await bell.wait()
    except TimeoutError:
        return False
