"""The relay as a process: killed, doubled, without its broker or its database's connections."""

import asyncio
import json
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from uuid import UUID

import pytest
from celery import Celery
from sqlalchemy import func, select, text

from domain.core import events
from domain.core.db import Database
from domain.core.events import Event
from domain.core.settings import Settings
from domain.delivery.models import StreamEvent
from domain.incidents import service as incidents
from domain.incidents.models import Actor, ActorKind
from tests import make
from tests.make import NOON
from workers.app import make_app

DETECTOR = Actor(ActorKind.DETECTOR, "detector")
PATIENCE_S = 30


@asynccontextmanager
async def relay(settings: Settings, **others: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A relay in a process of its own; killed in the end if it has not ended itself."""
    environment = {
        "DATABASE_URL": settings.database_url,
        "VITALS_WORKER_DATABASE_URL": settings.worker_database_url,
        "BROKER_URL": settings.broker_url,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "workers.relay", env={**os.environ, **environment, **others}
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not await condition():  # noqa: ASYNC110  # another process makes it true
            await asyncio.sleep(0.05)


async def is_published(db: Database) -> bool:
    async with db.read() as session:
        return not await session.scalar(
            select(func.count()).select_from(Event).where(Event.published_at.is_(None))
        )


async def is_dispatched(db: Database) -> bool:
    async with db.read() as session:
        return not await session.scalar(
            select(func.count()).select_from(Event).where(Event.dispatched_at.is_(None))
        )


async def acknowledge_new(db: Database, count: int = 1) -> list[UUID]:
    made = [await make.incident(db) for _ in range(count)]
    for incident in made:
        async with db.transaction() as session:
            await incidents.acknowledge(session, incident.id, actor=DETECTOR, at=NOON)
    return [incident.id for incident in made]


def sent(settings: Settings) -> list[tuple[str, dict[str, str]]]:
    """Take all tasks out of the broker: their names and arguments."""
    app: Celery = make_app(settings)
    found: list[tuple[str, dict[str, str]]] = []
    with app.connection_for_read() as connection, connection.channel() as channel:
        for queue in app.amqp.queues.values():
            bound = queue(channel)
            bound.declare()
            while (message := bound.get(no_ack=True)) is not None:
                found.append((message.headers["task"], json.loads(message.body)[1]))
    return found


@pytest.fixture
def empty_broker(settings: Settings) -> Settings:
    sent(settings)
    return settings


async def test_a_killed_relay_loses_and_doubles_nothing(worker_db: Database, empty_broker: Settings) -> None:
    stop = asyncio.Event()
    incident = await make.incident(worker_db)

    async def write() -> int:
        written = 0
        while not stop.is_set():
            async with worker_db.transaction() as session:
                await incidents.post_update(session, incident.id, body=f"{written}", actor=DETECTOR, at=NOON)
            written += 1
        return written

    writing = asyncio.create_task(write())
    for seen in (10, 40):
        async with relay(empty_broker) as process:
            await until(lambda wanted=seen: has_told(worker_db, wanted))  # type: ignore[misc]
            process.kill()
    stop.set()
    written = await writing
    async with relay(empty_broker):
        await until(lambda: is_published(worker_db))

    async with worker_db.read() as session:
        rows = await session.execute(
            select(StreamEvent.sequence, StreamEvent.version, Event.payload["update"]["body"].astext)
            .join(Event, Event.id == StreamEvent.event_id)
            .order_by(StreamEvent.sequence)
        )
        assert [tuple(row) for row in rows] == [(n + 1, n + 1, f"{n}") for n in range(written)]


async def has_told(db: Database, count: int) -> bool:
    async with db.read() as session:
        return (await session.scalar(select(func.count()).select_from(StreamEvent)) or 0) >= count


async def test_two_relays_share_one_sequence(worker_db: Database, empty_broker: Settings) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(2):
            await stack.enter_async_context(relay(empty_broker))
        await acknowledge_new(worker_db, 40)
        await until(lambda: is_published(worker_db))

    async with worker_db.read() as session:
        sequences = await session.scalars(select(StreamEvent.sequence).order_by(StreamEvent.sequence))
        assert sequences.all() == list(range(1, 41))


async def test_sigterm_ends_it_cleanly(worker_db: Database, empty_broker: Settings) -> None:
    async with relay(empty_broker) as process:
        await acknowledge_new(worker_db)
        await until(lambda: is_published(worker_db))
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), PATIENCE_S) == 0


async def test_an_incident_is_handed_on_to_the_workers_once_it_is_recorded(
    worker_db: Database, empty_broker: Settings
) -> None:
    account, incident = await make.account(worker_db), await make.incident(worker_db)
    async with worker_db.transaction() as session:
        await events.record(session, "incident.opened", incident.id, at=NOON)
        await events.record(session, "incident.reached", incident.id, account_id=account.id, at=NOON)
        await events.record(session, "incident.acknowledged", incident.id, at=NOON)

    async with relay(empty_broker):
        await until(lambda: is_dispatched(worker_db))

    assert sent(empty_broker) == [
        ("incidents.spread", {"incident_id": str(incident.id)}),
        ("insights.write", {"incident_id": str(incident.id)}),
        ("insights.write", {"account_id": str(account.id)}),
    ]


async def test_the_log_is_folded_as_soon_as_something_is_in_it(
    worker_db: Database, settings: Settings, empty_broker: Settings
) -> None:
    row = "INSERT INTO ingest_log (received_at, backfill, points, columns) VALUES (now(), false, 1, '')"
    async with Database(settings.database_url, "vitals_app").transaction("operator") as session:
        await session.execute(text(row))
        await session.execute(text("NOTIFY vitals_wake"))

    async with relay(empty_broker):
        await until(lambda: asyncio.to_thread(lambda: ("telemetry.fold", {}) in sent(empty_broker)))


@pytest.mark.parametrize("fault", ["refusing", "silent"])
async def test_without_a_broker_streams_go_on_and_tasks_wait(
    worker_db: Database, empty_broker: Settings, fault: str
) -> None:
    """The silent one takes connections and never answers."""
    server = socket.create_server(("127.0.0.1", 0))
    port = server.getsockname()[1]
    if fault == "refusing":
        server.close()
    incident = await make.incident(worker_db)
    async with worker_db.transaction() as session:
        await events.record(session, "incident.opened", incident.id, at=NOON)

    async with relay(empty_broker, BROKER_URL=f"redis://127.0.0.1:{port}/0"):
        await until(lambda: is_published(worker_db))
        await acknowledge_new(worker_db, 3)
        await until(lambda: is_published(worker_db))
        assert not await is_dispatched(worker_db)
    server.close()
    async with worker_db.transaction() as session:
        # As if the time in which the first relay had its say were over.
        await session.execute(text("UPDATE events SET published_at = :at"), {"at": NOON.replace(year=2020)})

    async with relay(empty_broker):
        await until(lambda: is_dispatched(worker_db))
    assert ("incidents.spread", {"incident_id": str(incident.id)}) in sent(empty_broker)


async def test_a_silent_broker_holds_no_transaction_open(worker_db: Database, empty_broker: Settings) -> None:
    incident = await make.incident(worker_db)
    async with worker_db.transaction() as session:
        await events.record(session, "incident.opened", incident.id, at=NOON)
    asked: asyncio.Queue[asyncio.StreamReader] = asyncio.Queue()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(1)
        await asked.put(reader)
        stack.callback(writer.close)

    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(await asyncio.start_server(say_nothing, "127.0.0.1", 0))
        port = server.sockets[0].getsockname()[1]
        await stack.enter_async_context(relay(empty_broker, BROKER_URL=f"redis://127.0.0.1:{port}/0"))
        waiting_for = await asyncio.wait_for(asked.get(), PATIENCE_S)
        began = await transactions(worker_db)
        await until(lambda: have_ended(worker_db, began))
        assert not waiting_for.at_eof()
        assert not await is_dispatched(worker_db)


async def have_ended(db: Database, began: set[tuple[int, datetime]]) -> bool:
    return not began & await transactions(db)


async def transactions(db: Database) -> set[tuple[int, datetime]]:
    """The other transactions that are open in the database."""
    statement = text(
        "SELECT pid, xact_start FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid() AND xact_start IS NOT NULL"
    )
    async with db.read() as session:
        return {(row.pid, row.xact_start) for row in await session.execute(statement)}


async def test_it_goes_on_when_the_database_cuts_its_connections(
    worker_db: Database, cluster: object, empty_broker: Settings
) -> None:
    async with relay(empty_broker) as process:
        await acknowledge_new(worker_db)
        await until(lambda: is_published(worker_db))
        for _ in range(2):
            await cut(cluster, worker_db)
            await acknowledge_new(worker_db)
            await until(lambda: is_published(worker_db))
        assert process.returncode is None


async def cut(cluster: object, db: Database) -> None:
    await db.dispose()
    await cluster.execute(  # type: ignore[attr-defined]  # the fixtures' Cluster
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname LIKE 'vitals_test_%' AND usename LIKE 'vitals_%'"
    )
