"""Group commit: whatever shares a transaction, each request has one effect and its own reply."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import asyncpg
import pytest
from sqlalchemy import text

from domain.core.db import Database, listen
from domain.core.errors import IdempotencyKeyReused
from domain.core.events import WAKE
from domain.telemetry import batches, flusher
from domain.telemetry.batches import Entry, Outcome
from domain.telemetry.flusher import Flusher
from domain.telemetry.outages import Unavailable
from tests.make import NOON


def entry(key: str, *, body: str = "body", reply: str = '{"accepted": 1}', columns: bytes = b"x") -> Entry:
    return Entry(
        key=key.encode(),
        scope="operator",
        body_hash=body.encode(),
        reply=reply,
        received_at=NOON,
        is_backfill=False,
        points=1,
        columns=columns,
    )


@asynccontextmanager
async def running(db: Database) -> AsyncIterator[Flusher]:
    one = Flusher(db)
    one.start()
    try:
        yield one
    finally:
        await one.stop()


@pytest.fixture
async def writer(db: Database) -> AsyncIterator[Flusher]:
    async with running(db) as one:
        yield one


@pytest.fixture
async def other_writer(db: Database) -> AsyncIterator[Flusher]:
    """That of another process."""
    opened = Database(db.url, db.role)
    async with running(opened) as one:
        yield one
    await opened.dispose()


async def in_one_group(db: Database, entries: Sequence[Entry]) -> list[Outcome | BaseException]:
    """What those hear who all handed in before the flusher began."""
    one = Flusher(db)
    waiting = [asyncio.create_task(one.append(each)) for each in entries]
    await until(lambda: one.waiting == len(entries))
    one.start()
    await one.stop()
    return await asyncio.gather(*waiting, return_exceptions=True)


async def until(holds: Callable[[], bool | Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while True:
            found = holds()
            if found if isinstance(found, bool) else await found:
                return
            await asyncio.sleep(0)


async def logged(worker_db: Database) -> list[bytes]:
    """The columns that lie in the log, in its order."""
    async with worker_db.read() as session:
        return list(await session.scalars(text("SELECT columns FROM ingest_log ORDER BY id")))


async def keys(worker_db: Database) -> set[bytes]:
    async with worker_db.read() as session:
        return set(await session.scalars(text("SELECT key FROM ingest_batches")))


@asynccontextmanager
async def holding(worker_db: Database, key: str) -> AsyncIterator[None]:
    """Another transaction has the key, and gives up at the end: until then writers of it wait."""
    async with worker_db.engine.connect() as connection:
        await connection.execute(
            text(
                "INSERT INTO ingest_batches (key, scope, body_hash, reply, received_at)"
                " VALUES (:key, '', '', '{}', now())"
            ),
            {"key": key.encode()},
        )
        yield
        await connection.rollback()


async def blocked(cleaner: asyncpg.Connection) -> list[int]:
    """The backends of the app that wait for a lock in this database."""
    rows = await cleaner.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND usename = 'vitals_app'"
        " AND wait_event_type = 'Lock'"
    )
    return [row["pid"] for row in rows]


async def test_the_same_request_fifty_times_in_parallel_has_one_effect_and_one_reply(
    writer: Flusher, other_writer: Flusher, worker_db: Database
) -> None:
    both = (writer, other_writer)
    sent = [both[n % 2].append(entry("k", reply=f'{{"accepted": {n}}}')) for n in range(50)]
    outcomes = await asyncio.gather(*sent)
    assert len({outcome.reply for outcome in outcomes}) == 1
    assert [outcome.is_new for outcome in outcomes].count(True) == 1
    assert await logged(worker_db) == [b"x"]


async def test_an_idempotency_key_with_another_body_is_refused_and_writes_nothing(
    writer: Flusher, worker_db: Database
) -> None:
    await writer.append(entry("k", columns=b"first"))
    with pytest.raises(IdempotencyKeyReused):
        await writer.append(entry("k", body="other", columns=b"second"))
    assert await logged(worker_db) == [b"first"]


async def test_a_key_twice_in_a_group_is_as_two_requests_one_after_the_other(
    db: Database, worker_db: Database
) -> None:
    first, again, other = await in_one_group(
        db, [entry("k", columns=b"first"), entry("k", reply="{}"), entry("k", body="other")]
    )
    assert first == Outcome(b"body", '{"accepted": 1}', True)
    assert again == Outcome(b"body", '{"accepted": 1}', False)
    assert isinstance(other, IdempotencyKeyReused)
    assert await logged(worker_db) == [b"first"]


async def test_a_conflict_or_a_repetition_in_a_group_is_no_matter_to_the_others(
    writer: Flusher, db: Database, worker_db: Database
) -> None:
    await writer.append(entry("k", columns=b"0"))
    found = await in_one_group(
        db, [entry("a", columns=b"1"), entry("k", body="other"), entry("k"), entry("b", columns=b"2")]
    )
    assert isinstance(found[1], IdempotencyKeyReused)
    assert [one.is_new for one in found if isinstance(one, Outcome)] == [True, False, True]
    assert await logged(worker_db) == [b"0", b"1", b"2"]


async def test_what_cannot_be_written_at_all_fails_alone(db: Database, worker_db: Database) -> None:
    good, bad, also_good = await in_one_group(
        db, [entry("a", columns=b"1"), entry("b", reply="no JSON"), entry("c", columns=b"2")]
    )
    assert isinstance(bad, asyncpg.InvalidTextRepresentationError)
    assert [isinstance(one, Outcome) and one.is_new for one in (good, also_good)] == [True, True]
    assert await logged(worker_db) == [b"1", b"2"]


async def test_points_are_logged_in_the_order_in_which_they_came(db: Database, worker_db: Database) -> None:
    sent = [str(number) for number in range(40, 0, -1)]
    await in_one_group(db, [entry(name, columns=name.encode()) for name in sent])
    assert await logged(worker_db) == [name.encode() for name in sent]


async def test_a_request_without_points_has_a_key_and_no_row_in_the_log(
    writer: Flusher, worker_db: Database
) -> None:
    nothing = entry("k")._replace(points=0, columns=b"")
    assert (await writer.append(nothing)).is_new
    assert not (await writer.append(nothing)).is_new
    assert await logged(worker_db) == []


async def test_groups_with_the_same_keys_in_any_order_do_not_wait_for_one_another(
    writer: Flusher, other_writer: Flusher, worker_db: Database
) -> None:
    names = [f"k{number}" for number in range(60)]
    shuffled = random.Random(1)

    async def send(one: Flusher) -> list[Outcome]:
        order = shuffled.sample(names, len(names))
        return await asyncio.gather(*(one.append(entry(name)) for name in order))

    found = await asyncio.gather(*(send(one) for one in (writer, other_writer) * 5))
    assert sum(outcome.is_new for outcomes in found for outcome in outcomes) == 60
    assert len(await logged(worker_db)) == 60


async def test_a_sender_that_is_gone_before_its_turn_has_no_effect(db: Database, worker_db: Database) -> None:
    one = Flusher(db)
    gone = asyncio.create_task(one.append(entry("gone", columns=b"gone")))
    stays = asyncio.create_task(one.append(entry("stays", columns=b"stays")))
    await until(lambda: one.waiting == 2)
    gone.cancel()
    await asyncio.gather(gone, return_exceptions=True)
    one.start()
    assert (await stays).is_new
    await one.stop()
    assert await logged(worker_db) == [b"stays"]


async def test_a_sender_that_goes_while_its_group_is_written_disturbs_nobody(
    writer: Flusher, worker_db: Database, cleaner: asyncpg.Connection
) -> None:
    async with holding(worker_db, "b"):
        waiting = [asyncio.create_task(writer.append(entry(name))) for name in ("a", "b")]

        async def is_blocked() -> bool:
            return bool(await blocked(cleaner))

        await until(is_blocked)
        waiting[0].cancel()
    assert (await waiting[1]).is_new
    assert (await writer.append(entry("c"))).is_new
    assert await keys(worker_db) >= {b"b", b"c"}


async def test_a_connection_that_is_killed_loses_and_doubles_nothing(
    writer: Flusher, worker_db: Database, cleaner: asyncpg.Connection
) -> None:
    async def killed() -> bool:
        found = await blocked(cleaner)
        for pid in found:
            await cleaner.fetchval("SELECT pg_terminate_backend($1, 5000)", pid)
        return bool(found)

    async with holding(worker_db, "k"):
        waiting = asyncio.create_task(writer.append(entry("k", columns=b"1")))
        await until(killed)
    assert (await waiting).is_new
    # One that was killed while nothing was under way is found out by the next request.
    idle = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'vitals_app'"
    await cleaner.execute(f"{idle} AND datname = current_database()")
    assert (await writer.append(entry("after", columns=b"2"))).is_new
    assert await logged(worker_db) == [b"1", b"2"]


async def test_a_reply_that_was_lost_with_the_connection_is_given_again(
    db: Database, worker_db: Database
) -> None:
    line = batches.Line(db)
    await line.write([entry("k")])  # of which the sender never heard
    await line.close(is_lost=True)
    assert await line.write([entry("k", reply="{}")]) == [Outcome(b"body", '{"accepted": 1}', False)]
    await line.close()
    assert len(await logged(worker_db)) == 1


async def test_a_database_that_is_read_only_is_told_and_taken_up_again_when_it_is_not(
    db: Database, worker_db: Database, cleaner: asyncpg.Connection, database: str
) -> None:
    setting = f"ALTER ROLE vitals_app IN DATABASE {database}"
    await cleaner.execute(f"{setting} SET default_transaction_read_only = on")
    try:
        async with running(db) as one:
            with pytest.raises(Unavailable) as refusal:
                await one.append(entry("k"))
            await cleaner.execute(f"{setting} RESET default_transaction_read_only")
            assert (await one.append(entry("k"))).is_new
    finally:
        await cleaner.execute(f"{setting} RESET default_transaction_read_only")
    assert refusal.value.retry_after_s == 1
    assert len(await logged(worker_db)) == 1


async def test_a_database_that_is_away_is_told(db: Database) -> None:
    away = Database("postgresql://vitals_app@127.0.0.1:1/vitals", db.role)
    async with running(away) as one:
        with pytest.raises(Unavailable, match="cannot be reached"):
            await one.append(entry("k"))
    await away.dispose()


async def test_what_is_beyond_the_queue_is_refused_at_once(
    db: Database, worker_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flusher, "MOST_WAITING", 2)
    *taken, shed = await in_one_group_of(db, [entry("a"), entry("b"), entry("c")], room=2)
    assert [isinstance(one, Outcome) for one in taken] == [True, True]
    assert isinstance(shed, Unavailable)
    assert await keys(worker_db) == {b"a", b"b"}


async def in_one_group_of(
    db: Database, entries: Sequence[Entry], *, room: int
) -> list[Outcome | BaseException]:
    """The same where only the first `room` find a place."""
    one = Flusher(db)
    waiting = [asyncio.create_task(one.append(each)) for each in entries]
    await until(lambda: one.waiting == room)
    one.start()
    await one.stop()
    return await asyncio.gather(*waiting, return_exceptions=True)


async def test_stopping_waits_for_all_that_was_handed_in(db: Database, worker_db: Database) -> None:
    one = Flusher(db)
    one.start()
    waiting = [asyncio.create_task(one.append(entry(f"k{number}"))) for number in range(200)]
    await until(lambda: one.waiting > 0)
    await one.stop()
    assert sum(outcome.is_new for outcome in await asyncio.gather(*waiting)) == 200
    assert len(await logged(worker_db)) == 200


async def test_the_relay_is_woken_once_for_many_and_at_the_end(db: Database) -> None:
    told: list[str] = []
    listener = await listen(db.url, db.role)
    await listener.add_listener(WAKE, lambda *_: told.append(WAKE))
    await in_one_group(db, [entry(f"k{number}") for number in range(30)])
    await until(lambda: bool(told))
    await listener.fetchval("SELECT 1")
    assert len(told) == 1
    await listener.close()
