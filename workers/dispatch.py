"""Which tasks there is work for, and the way to the broker: sent twice at worst, never forgotten.

What waits in a table is looked for there; an event names a task only where nothing else shows the work.
"""

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from celery import Celery
from kombu.connection import Connection
from kombu.exceptions import OperationalError
from kombu.messaging import Producer
from sqlalchemy import exists, or_, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.delivery.streams import Published
from domain.forecasts.models import Job, JobStatus
from domain.statuspages.models import StatusSnapshot
from domain.telemetry import queries as telemetry
from domain.telemetry.models import IngestLog

BROKER_TIMEOUT_S = 3.0


@dataclass(frozen=True)
class Call:
    """A task and its arguments; one that waited longer than `expires_s` need not run."""

    task: str
    arguments: tuple[tuple[str, str], ...] = ()
    expires_s: float | None = None


Maker = Callable[[Published], Call | None]


def _spread(event: Published) -> Call | None:
    return None if event.account_id else Call("incidents.spread", (("incident_id", str(event.subject_id)),))


def _follow(event: Published) -> Call:
    return Call("incidents.follow")


def _write(event: Published) -> Call:
    """For one account where the event has one, or else for all that the incident has reached."""
    if event.account_id:
        return Call("insights.write", (("account_id", str(event.account_id)),))
    return Call("insights.write", (("incident_id", str(event.subject_id)),))


CALLED_FOR: Mapping[str, Sequence[Maker]] = {
    "incident.opened": (_spread, _write),
    "incident.updated": (_spread, _write),
    "incident.impact_changed": (_write,),
    "incident.reached": (_write,),
    "incident.reopened": (_spread, _write),
    "incident.resolved": (_write,),
    "anomaly.opened": (_follow, _write),
    "anomaly.closed": (_follow, _write),
}


def called_for(events: Iterable[Published]) -> list[Call]:
    """The tasks that the events call for, each once, in the events' order."""
    made = [make(event) for event in events for make in CALLED_FOR.get(event.name, ())]
    return list(dict.fromkeys(call for call in made if call))


async def _is_log_waiting(session: AsyncSession, at: datetime) -> bool:
    return bool(await session.scalar(select(exists().where(IngestLog.failure.is_(None)))))


async def _is_judgeable(session: AsyncSession, at: datetime) -> bool:
    return bool(await telemetry.judgeable(session, at))


async def _is_job_free(session: AsyncSession, at: datetime) -> bool:
    free = or_(Job.status == JobStatus.QUEUED, Job.leased_until < at)
    return bool(await session.scalar(select(exists().where(Job.finished_at.is_(None), free))))


async def _is_snapshot_waiting(session: AsyncSession, at: datetime) -> bool:
    return bool(await session.scalar(select(exists().where(StatusSnapshot.applied_at.is_(None)))))


@dataclass
class Watch:
    """Work that a table shows: its task is sent while there is some, at most once in `every_s`."""

    task: str
    every_s: float
    is_waiting: Callable[[AsyncSession, datetime], Awaitable[bool]]
    _due_at: float = field(default=0.0, init=False)

    async def look(self, session: AsyncSession, at: datetime, *, clock: float) -> Call | None:
        """`clock` is in seconds of any clock that does not go back. The task lapses when others follow."""
        if clock < self._due_at or not await self.is_waiting(session, at):
            return None
        self._due_at = clock + self.every_s
        return Call(self.task, expires_s=max(1.0, 10 * self.every_s))


def watches() -> list[Watch]:
    return [
        Watch("telemetry.fold", 0.2, _is_log_waiting),
        Watch("anomalies.judge", 1.0, _is_judgeable),
        Watch("forecasts.fit", 5.0, _is_job_free),
        Watch("statuspages.apply", 1.0, _is_snapshot_waiting),
    ]


class BrokerAway(Exception):
    """The broker did not take the tasks; some of them it may have."""


class Broker:
    """The broker as the relay has it: its calls block, and give up after BROKER_TIMEOUT_S or little more."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Connection | None = None

    def send(self, calls: Sequence[Call]) -> None:
        """Send all or raise BrokerAway; one at a time."""
        connection = self._connection or self._connect()
        self._connection = connection
        try:
            producer = connection.Producer()  # type: ignore[no-untyped-call]  # kombu has no types
            for call in calls:
                self._send(call, producer)
        except (
            *connection.connection_errors,
            *connection.channel_errors,
            OperationalError,
            OSError,
        ) as error:
            # Connecting raises the transport's own errors, publishing raises kombu's name for them.
            self.close()
            raise BrokerAway(str(error)) from error

    def _send(self, call: Call, producer: Producer) -> None:
        self._app.send_task(
            call.task,
            kwargs=dict(call.arguments),
            producer=producer,
            expires=call.expires_s,
            retry=False,
            ignore_result=True,
        )

    def _connect(self) -> Connection:
        """Each transport reads those of the names that are its own."""
        names = ("socket_timeout", "socket_connect_timeout", "read_timeout", "write_timeout")
        options: dict[str, Any] = dict.fromkeys(names, BROKER_TIMEOUT_S)
        connection: Connection = self._app.connection_for_write(
            connect_timeout=BROKER_TIMEOUT_S, transport_options={**options, "max_retries": 0}
        )
        return connection

    def close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.collect(socket_timeout=0.1)  # type: ignore[no-untyped-call]  # kombu has no types
