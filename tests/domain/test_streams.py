"""Reading streams: cursors, and the gaps that a reader is told of."""

from collections.abc import Sequence

import pytest
from sqlalchemy import delete, select, update

from domain.core import events
from domain.core.db import Database
from domain.core.errors import InvalidInput
from domain.core.events import Event
from domain.core.ids import uuid7
from domain.delivery import queries, streams
from domain.delivery.models import StreamEvent
from domain.delivery.queries import Gap, GapReason, Start
from tests.make import NOON

AUDIENCE = """
    SELECT id AS event_id, position, subject_id, 'operator' AS stream, 'UPDATED' AS type FROM batch
"""


async def tell(db: Database, count: int) -> Sequence[streams.Published]:
    async with db.transaction() as session:
        for _ in range(count):
            await events.record(session, "incident.updated", uuid7(), at=NOON)
        return await streams.publish(
            session, audience=AUDIENCE, first_type="OPENED", limit=count, at=NOON, binds={}
        )


async def test_a_reader_goes_on_behind_its_cursor(db: Database, worker_db: Database) -> None:
    await tell(worker_db, 5)

    async with db.read("operator") as session:
        start = await queries.start(session, "operator", queries.encode("operator", 2))
        rows = await queries.after(session, "operator", start.sequence, limit=2)

    assert start == Start(2)
    assert [row.sequence for row in rows] == [3, 4]


async def test_a_stream_that_was_told_nothing_has_a_beginning(db: Database) -> None:
    async with db.read("operator") as session:
        assert await queries.start(session, "operator", None) == Start(0)
        assert await queries.start(session, "operator", queries.encode("operator", 0)) == Start(0)
        assert await queries.latest_sequence(session, "operator") == 0
        assert await queries.oldest_sequence(session, "operator") is None


async def test_what_is_no_longer_kept_is_told_as_a_gap(db: Database, worker_db: Database) -> None:
    await tell(worker_db, 5)
    async with worker_db.transaction() as session:
        await session.execute(delete(StreamEvent).where(StreamEvent.sequence <= 3))

    async with db.read("operator") as session:
        begin = await queries.start(session, "operator", None)
        behind = await queries.start(session, "operator", queries.encode("operator", 1))
        current = await queries.start(session, "operator", queries.encode("operator", 3))
    async with worker_db.transaction() as session:
        await session.execute(delete(StreamEvent))
    async with db.read("operator") as session:
        all_gone = await queries.start(session, "operator", queries.encode("operator", 4))

    assert begin == current == Start(3)
    assert behind == Start(3, Gap(2, 3, GapReason.RETENTION))
    assert all_gone == Start(5, Gap(5, 5, GapReason.RETENTION))


@pytest.mark.parametrize("cursor", [queries.encode("public", 1), queries.encode("operator", 6)])
async def test_a_cursor_of_another_stream_or_of_the_future_is_a_gap(
    db: Database, worker_db: Database, cursor: str
) -> None:
    await tell(worker_db, 5)

    async with db.read("operator") as session:
        start = await queries.start(session, "operator", cursor)

    assert start == Start(5, Gap(1, 5, GapReason.UNKNOWN_CURSOR))


@pytest.mark.parametrize(
    "cursor",
    ["", "x", "ü", "1", "=" * 16, queries.encode("operator", -1), queries.encode("operator", 1)[:-1]],
)
def test_a_text_that_is_no_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInput, match="cursor"):
        queries.decode(cursor, stream="operator")


async def test_one_subjects_story_is_read_by_its_versions(db: Database, worker_db: Database) -> None:
    subject = uuid7()
    async with worker_db.transaction() as session:
        for one in (subject, uuid7(), subject, subject):
            await events.record(session, "incident.updated", one, at=NOON)
        await streams.publish(session, audience=AUDIENCE, first_type="OPENED", limit=9, at=NOON, binds={})

    async with db.read("operator") as session:
        rows = await queries.of_subject(session, "operator", subject, after_version=1, limit=9)

    assert [(row.version, row.sequence, row.type) for row in rows] == [(2, 3, "UPDATED"), (3, 4, "UPDATED")]


async def test_events_whose_tasks_nobody_sent_are_found_again(worker_db: Database) -> None:
    first, second = await tell(worker_db, 2)
    async with worker_db.transaction() as session:
        await streams.mark_dispatched(session, [first.id], at=NOON)

    async with worker_db.read() as session:
        assert await streams.undispatched(session, before=NOON, limit=9) == []
    async with worker_db.transaction() as session:
        await session.execute(update(Event).values(published_at=NOON.replace(hour=11)))
        assert await streams.undispatched(session, before=NOON, limit=9) == [second]
        assert (await session.scalars(select(Event.dispatched_at).order_by(Event.position))).all() == [
            NOON,
            None,
        ]
