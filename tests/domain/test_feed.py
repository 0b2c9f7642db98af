"""The feed: who is told what, in which order, whatever else goes on in the database."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from uuid import UUID

from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncSession

from domain.access.principal import Principal
from domain.core import events
from domain.core.db import Database
from domain.core.events import Event
from domain.core.ids import uuid7
from domain.delivery import queries as delivery
from domain.delivery.models import Stream, StreamEvent, of_account, of_partner
from domain.delivery.queries import Told
from domain.incidents import feed
from domain.incidents import queries as incident_queries
from domain.incidents import service as incidents
from domain.incidents.models import Actor, ActorKind, Incident, Resolution
from domain.incidents.reach import IncidentImpact
from tests import make
from tests.make import NOON

DETECTOR = Actor(ActorKind.DETECTOR, "detector")


async def publish_all(db: Database, *, limit: int = 100) -> int:
    done = 0
    while True:
        async with db.transaction() as session:
            published = await feed.publish(session, limit=limit, at=NOON)
        if not published:
            return done
        done += len(published)


async def told(db: Database, principal: Principal) -> Sequence[Told]:
    """All that the principal's own stream holds, read in its own scope."""
    async with db.read(principal.scope) as session:
        return await delivery.after(session, principal.stream, 0, limit=1_000)


def types(found: Sequence[Told]) -> list[tuple[int, int, str]]:
    return [(one.sequence, one.version, one.type) for one in found]


async def test_each_audience_is_told_in_a_sequence_of_its_own(db: Database, worker_db: Database) -> None:
    account, partner = await make.account(worker_db), await make.partner(worker_db)
    incident = await make.incident(worker_db, partners=[partner], is_public=True)
    async with worker_db.transaction() as session:
        await incidents.acknowledge(session, incident.id, actor=DETECTOR, at=NOON)
        await incidents.reach(session, incident.id, account.id, IncidentImpact("BRL"), at=NOON)
        await incidents.resolve(
            session, incident.id, resolution=Resolution.OBSERVED, actor=DETECTOR, at=NOON, body="Over."
        )

    assert await publish_all(worker_db) == 3

    shared = [(1, 1, "OPENED"), (2, 2, "RESOLVED")]
    assert types(await told(db, make.operator())) == [
        (1, 1, "OPENED"),
        (2, 2, "IMPACT_CHANGED"),
        (3, 3, "RESOLVED"),
    ]
    assert types(await told(db, make.of_partner(partner))) == shared
    assert types(await told(db, make.merchant(account))) == shared
    async with db.read("public") as session:
        assert types(await delivery.after(session, "public", 0, limit=10)) == shared
    assert await told(db, make.ingest()) == []


async def test_an_account_that_is_reached_later_is_told_of_the_opening_with_what_is_known(
    db: Database, worker_db: Database
) -> None:
    account, partner = await make.account(worker_db), await make.partner(worker_db)
    operator = make.operator()
    incident = await make.incident(worker_db, partners=[partner])
    async with worker_db.transaction() as session:
        for body in ("First.", "Second."):
            await incidents.post_update(session, incident.id, body=body, actor=operator, at=NOON)
    await publish_all(worker_db)
    async with worker_db.transaction() as session:
        await incidents.reach(
            session, incident.id, account.id, IncidentImpact("BRL", traffic_share=0.4), at=NOON
        )
        await incidents.post_update(session, incident.id, body="Third.", actor=operator, at=NOON)
    await publish_all(worker_db)

    opened, updated = await told(db, make.merchant(account))

    assert types([opened, updated]) == [(1, 1, "OPENED"), (2, 2, "UPDATED")]
    assert opened.payload["account"]["traffic_share"] == 0.4
    posted = [feed.posted(one) for one in (opened, updated)]
    assert [update["body"] for update in posted if update] == ["Second.", "Third."]
    (grown,) = [one for one in await told(db, operator) if one.type == "IMPACT_CHANGED"]
    assert feed.posted(grown) is None


async def test_who_stands_above_several_accounts_is_told_of_the_opening_once(
    db: Database, worker_db: Database
) -> None:
    parent = await make.account(worker_db)
    children = [await make.account(worker_db, parent=parent) for _ in range(2)]
    incident = await make.incident(worker_db)
    async with worker_db.transaction() as session:
        for child in children:
            await incidents.reach(session, incident.id, child.id, IncidentImpact("BRL"), at=NOON)
        await incidents.acknowledge(session, incident.id, actor=DETECTOR, at=NOON)
    await publish_all(worker_db)

    found = await told(db, make.merchant(parent, *children))

    assert types(found) == [(1, 1, "OPENED"), (2, 2, "IMPACT_CHANGED"), (3, 3, "ACKNOWLEDGED")]
    for child in children:
        assert types(await told(db, make.merchant(child))) == [(1, 1, "OPENED"), (2, 2, "ACKNOWLEDGED")]


async def test_no_stream_holds_a_byte_of_another_audience(db: Database, worker_db: Database) -> None:
    """One incident hits two accounts; a third has trouble of its own."""
    partner = await make.partner(worker_db, name="Partner Pelican")
    names = ["Merchant Albatross", "Merchant Bittern", "Merchant Cormorant"]
    accounts = [await make.account(worker_db, name=name) for name in names]
    shared = await make.incident(worker_db, partners=[partner])
    own = await make.incident(worker_db, grouping_key=f"account:{accounts[2].id}:X")
    async with worker_db.transaction() as session:
        for number, account in enumerate(accounts):
            impact = IncidentImpact("BRL", f"{account.name} loses.", 0.5, 11, 71_000 + number, 99_999)
            await incidents.reach(session, (own if number == 2 else shared).id, account.id, impact, at=NOON)
        await incidents.acknowledge(session, shared.id, actor=DETECTOR, at=NOON)
        await incidents.acknowledge(session, own.id, actor=DETECTOR, at=NOON)
    await publish_all(worker_db)

    marks = [{str(a.id), a.name, str(71_000 + n)} for n, a in enumerate(accounts)]
    audience = [make.merchant(account) for account in accounts]
    for number, principal in enumerate([*audience, make.of_partner(partner)]):
        found = await told(db, principal)
        said = json.dumps([[str(one.account_id), str(one.subject_id), one.payload] for one in found])
        assert len(found) == (1 if number == 3 else 2)
        assert [n for n, of_one in enumerate(marks) if any(mark in said for mark in of_one)] == (
            [number] if number < 3 else []
        )
        hidden = shared if number == 2 else own
        assert str(hidden.id) not in said


async def test_a_stream_is_read_by_its_own_audience_alone(db: Database, worker_db: Database) -> None:
    account, stranger = await make.account(worker_db), await make.account(worker_db)
    incident = await make.incident(worker_db)
    async with worker_db.transaction() as session:
        await incidents.reach(session, incident.id, account.id, IncidentImpact("BRL"), at=NOON)
    await publish_all(worker_db)

    for scope in (make.merchant(stranger).scope, "public", ""):
        async with db.read(scope) as session:
            assert await delivery.after(session, of_account(account.id), 0, limit=10) == []
            assert await delivery.after(session, "operator", 0, limit=10) == []
            assert await delivery.latest_sequence(session, of_account(account.id)) == 0


async def test_events_that_are_none_of_an_incident_have_no_audience(worker_db: Database) -> None:
    async with worker_db.transaction() as session:
        await events.record(session, "points.received", uuid7(), at=NOON)

    assert await publish_all(worker_db) == 1
    async with worker_db.read() as session:
        assert (await session.scalars(select(Stream.name))).all() == []
        assert (await session.scalars(select(Event.published_at))).all() == [NOON]


async def test_an_event_that_commits_late_is_found_late_while_others_go_on(worker_db: Database) -> None:
    late, early = await make.incident(worker_db), await make.incident(worker_db)
    async with worker_db.transaction() as open_one:
        await incidents.acknowledge(open_one, late.id, actor=DETECTOR, at=NOON)
        async with worker_db.transaction() as session:
            await incidents.acknowledge(session, early.id, actor=DETECTOR, at=NOON)
        assert await publish_all(worker_db) == 1
    assert await publish_all(worker_db) == 1

    async with worker_db.read() as session:
        rows = await session.execute(
            select(StreamEvent.subject_id, StreamEvent.sequence).order_by(StreamEvent.sequence)
        )
        assert [tuple(row) for row in rows] == [(early.id, 1), (late.id, 2)]


async def change(session: AsyncSession, incident_id: UUID, account_id: UUID, chance: random.Random) -> None:
    """Record, as every change does, events of one account or of all while the incident is locked."""
    await incident_queries.get(session, incident_id, lock=True)
    for _ in range(2):
        await asyncio.sleep(chance.random() / 200)
        if chance.random() < 0.3:
            await events.record(session, feed.REACHED, incident_id, account_id=account_id, at=NOON)
        else:
            await events.record(session, "incident.updated", incident_id, at=NOON)


async def test_nothing_is_skipped_or_doubled_while_many_write_and_some_give_up(worker_db: Database) -> None:
    accounts = [await make.account(worker_db) for _ in range(3)]
    partner = await make.partner(worker_db)
    made = [await make.incident(worker_db, partners=[partner]) for _ in range(20)]
    writing = Database(worker_db.url, worker_db.role, pool_size=11)

    async def write(seed: int) -> None:
        chance = random.Random(seed)
        for _ in range(50):
            async with writing.transaction() as session:
                await change(session, chance.choice(made).id, chance.choice(accounts).id, chance)
                if chance.random() < 0.2:
                    await session.rollback()

    async def relay() -> None:
        while True:
            await publish_all(worker_db, limit=17)
            await asyncio.sleep(0.02)

    async with writing.transaction() as bystander:
        await bystander.execute(text("SELECT pg_current_xact_id()"))
        relays = [asyncio.create_task(relay()) for _ in range(2)]
        await asyncio.gather(*(write(seed) for seed in range(20)))
        for one in relays:
            one.cancel()
        await asyncio.gather(*relays, return_exceptions=True)
        await publish_all(worker_db)
    await writing.dispose()

    await everything_is_in_order(worker_db, accounts=[one.id for one in accounts], partner_id=partner.id)


async def everything_is_in_order(db: Database, *, accounts: Sequence[UUID], partner_id: UUID) -> None:
    """Compare all streams with what the outbox says each must hold."""
    async with db.read() as session:
        recorded = (await session.scalars(select(Event).order_by(Event.position))).all()
        rows = (await session.scalars(select(StreamEvent).order_by(StreamEvent.sequence))).all()
        last = {row.name: row.last_sequence for row in await session.scalars(select(Stream))}
    assert len(recorded) > 1_000
    streams: defaultdict[str, list[StreamEvent]] = defaultdict(list)
    for row in rows:
        streams[row.stream].append(row)
    position = {event.id: event.position for event in recorded}
    for name, held in streams.items():
        assert [row.sequence for row in held] == list(range(1, last[name] + 1))
        subjects: defaultdict[UUID, list[StreamEvent]] = defaultdict(list)
        for row in held:
            subjects[row.subject_id].append(row)
        for of_one in subjects.values():
            assert [row.version for row in of_one] == list(range(1, len(of_one) + 1))
            places = [position[row.event_id] for row in of_one]
            assert places == sorted(places)
            assert [row.type for row in of_one].count("OPENED") == 1
            assert of_one[0].type == "OPENED"
    found = {name: {row.event_id for row in held} for name, held in streams.items()}
    assert found["operator"] == {event.id for event in recorded}
    assert found[of_partner(partner_id)] == {event.id for event in recorded if event.account_id is None}
    for account_id in accounts:
        assert found[of_account(account_id)] == expected_for(account_id, recorded)


def expected_for(account_id: UUID, recorded: Sequence[Event]) -> set[UUID]:
    """The account's own events, and all shared ones of an incident after the one that reached it."""
    reached: set[UUID] = set()
    expected: set[UUID] = set()
    for event in recorded:
        if event.account_id == account_id:
            reached.add(event.subject_id)
            expected.add(event.id)
        elif event.account_id is None and event.subject_id in reached:
            expected.add(event.id)
    return expected


async def test_a_publisher_that_dies_leaves_everything_to_the_next(worker_db: Database) -> None:
    incident = await make.incident(worker_db)
    async with worker_db.transaction() as session:
        await incidents.acknowledge(session, incident.id, actor=DETECTOR, at=NOON)

    async with worker_db.transaction() as session:
        assert len(await feed.publish(session, limit=10, at=NOON)) == 1
        await session.rollback()

    async with worker_db.transaction() as session:
        assert len(await feed.publish(session, limit=10, at=NOON)) == 1
    async with worker_db.read() as session:
        assert (await session.scalars(select(StreamEvent.sequence))).all() == [1]


async def test_the_payload_stays_as_it_was_recorded(db: Database, worker_db: Database) -> None:
    incident = await make.incident(worker_db, title="Slow", summary="It is slow.")
    async with worker_db.transaction() as session:
        await incidents.acknowledge(session, incident.id, actor=DETECTOR, at=NOON)
    async with worker_db.transaction() as session:
        row = await session.get_one(Incident, incident.id)
        row.title, row.resolved_at = "Changed", NOON + timedelta(hours=1)
    await publish_all(worker_db)

    (one,) = await told(db, make.operator())

    assert one.payload == {
        "incident_id": str(incident.id),
        "kind": "COMPONENT_STATUS",
        "title": "Slow",
        "summary": "It is slow.",
        "status": "INVESTIGATING",
        "impact": "MAJOR",
        "severity": "CRITICAL",
        "started_at": "2026-11-23T12:00:00+00:00",
        "resolved_at": None,
        "actor": {"kind": "DETECTOR", "name": "detector"},
        "update": None,
    }
