"""The feed over a real socket: everything once and in order, from wherever a reader left it."""

import asyncio
from collections.abc import AsyncIterator
from socket import SO_RCVBUF, SOL_SOCKET
from socket import socket as tcp
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from api.graphql import ids, sockets
from domain.core.db import Database
from domain.delivery import queries as delivery
from domain.incidents import feed
from domain.incidents import service as incidents
from domain.incidents.models import Incident
from tests import make
from tests.api.conftest import Api, ClientOf
from tests.api.sockets import Socket, opened
from tests.api.worlds import DETECTOR, EVENT, World
from tests.make import NOON

FEED = """
subscription ($after: String, $filter: IncidentFilter, $every: Duration) {
  incidentUpdates(after: $after, filter: $filter, heartbeatEvery: $every) {
    ...Event ... on StreamGap { from to reason } ... on Heartbeat { latestSequence }
  }
}
"""
PAGE = """
query ($after: String) {
  incidentEvents(first: 2, after: $after) {
    latestSequence pageInfo { hasNextPage endCursor } edges { cursor node { ...Event } }
  }
}
"""


async def tell(worker_db: Database, incident: Incident, *bodies: str) -> None:
    """Post an update for each body, each in a transaction of its own, and publish it."""
    for body in bodies:
        async with worker_db.transaction() as session:
            await incidents.post_update(session, incident.id, body=body, actor=DETECTOR, at=NOON)
        await publish(worker_db)


async def publish(worker_db: Database) -> None:
    async with worker_db.transaction() as session:
        while await feed.publish(session, limit=100, at=NOON):
            pass


async def following(socket: Socket, **variables: Any) -> AsyncIterator[dict[str, Any]]:
    await socket.subscribe(FEED + EVENT, **variables)
    while True:
        yield (await socket.next())["incidentUpdates"]


async def at_rest(api: Api, readers: int) -> None:
    """Wait until so many subscribers wait for what comes."""
    async with asyncio.timeout(20):
        while api.app.state.process.wakes.readers != readers:  # noqa: ASYNC110  # of the server
            await asyncio.sleep(0)


async def test_a_subscriber_is_told_what_happens_from_now_on(
    api: Api, db: Database, worker_db: Database
) -> None:
    world = await World.begin(worker_db)
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        events = following(socket)
        first = asyncio.ensure_future(anext(events))
        await at_rest(api, 1)
        await tell(worker_db, world.incident, "One.")
        event = await first

    assert (event["__typename"], event["sequence"], event["type"]) == ("IncidentChange", 2, "UPDATED")
    assert event["incident"] == {"id": ids.of(world.incident), "title": world.incident.title}
    assert event["update"]["body"] == "One."
    assert event["actor"] == {"kind": "DETECTOR", "name": "detector"}
    assert (event["status"], event["impact"], event["severity"]) == ("INVESTIGATING", "MAJOR", "CRITICAL")
    assert event["moneyAtRisk"] is None


async def test_a_subscriber_that_drops_and_resumes_misses_nothing(
    api: Api, db: Database, worker_db: Database
) -> None:
    world = await World.begin(worker_db)
    account = (await world.settle("Ana", money=7)).account
    key = await make.key(db, account=account)
    async with db.read(f"account:{account.id}") as session:
        before = await delivery.latest_sequence(session, f"account:{account.id}")
    cursor = delivery.encode(f"account:{account.id}", before)
    wanted = [f"Update {number}." for number in range(60)]
    telling = asyncio.create_task(tell(worker_db, world.incident, *wanted))
    seen: list[dict[str, Any]] = []
    while len(seen) < len(wanted):
        async with opened(api.socket_url, key=key) as socket:
            await socket.init()
            async for event in following(socket, after=cursor):
                seen.append(event)
                cursor = event["cursor"]
                if len(seen) % 7 == 0 or len(seen) == len(wanted):
                    break
            await socket.drop()
    await telling

    assert [event["update"]["body"] for event in seen] == wanted
    assert [event["sequence"] for event in seen] == list(range(before + 1, before + 61))
    await at_rest(api, 0)


async def test_a_page_of_the_feed_has_the_same_events_and_cursors(
    api: Api, db: Database, worker_db: Database, client_of: ClientOf
) -> None:
    world = await World.begin(worker_db)
    await tell(worker_db, world.incident, "One.", "Two.")
    client = await client_of()
    query = PAGE + EVENT
    async with opened(api.socket_url, key=client.key) as socket:
        await socket.init()
        events = following(socket, after=delivery.encode("operator", 0))
        told = [await anext(events) for _ in range(3)]

    first = (await client.ask(query))["incidentEvents"]
    second = (await client.ask(query, after=first["pageInfo"]["endCursor"]))["incidentEvents"]
    third = (await client.ask(query, after=second["pageInfo"]["endCursor"]))["incidentEvents"]

    assert [edge["node"] for edge in first["edges"] + second["edges"]] == told
    assert [edge["cursor"] for edge in first["edges"] + second["edges"]] == [one["cursor"] for one in told]
    assert [page["pageInfo"]["hasNextPage"] for page in (first, second, third)] == [True, False, False]
    assert third == {"latestSequence": 3, "edges": [], "pageInfo": second["pageInfo"]}


async def test_events_that_are_no_longer_kept_are_told_as_a_gap(
    api: Api, db: Database, worker_db: Database, client_of: ClientOf
) -> None:
    world = await World.begin(worker_db)
    await tell(worker_db, world.incident, "One.", "Two.", "Three.")
    async with worker_db.transaction() as session:
        await session.execute(text("DELETE FROM stream_events WHERE stream = 'operator' AND sequence < 3"))
    client = await client_of()
    async with opened(api.socket_url, key=client.key) as socket:
        await socket.init()
        events = following(socket, after=delivery.encode("operator", 0))
        gap, third = await anext(events), await anext(events)

    assert {name: gap[name] for name in ("__typename", "sequence", "from", "to", "reason", "incident")} == {
        "__typename": "StreamGap", "sequence": 2, "from": 1, "to": 2, "reason": "RETENTION", "incident": None,
    }  # fmt: skip
    assert (third["sequence"], third["update"]["body"]) == (3, "Two.")
    page = await client.ask(
        "query ($after: String) { incidentEvents(after: $after) { edges { node { __typename sequence } } } }",
        after=delivery.encode("operator", 0),
    )
    assert [edge["node"] for edge in page["incidentEvents"]["edges"]] == [
        {"__typename": "StreamGap", "sequence": 2},
        {"__typename": "IncidentChange", "sequence": 3},
        {"__typename": "IncidentChange", "sequence": 4},
    ]


@pytest.mark.parametrize("cursor", [delivery.encode("account:other", 1), delivery.encode("operator", 1_000)])
async def test_a_cursor_of_another_stream_is_told_as_a_gap_up_to_now(
    api: Api, db: Database, worker_db: Database, cursor: str
) -> None:
    world = await World.begin(worker_db)
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        events = following(socket, after=cursor)
        gap = await anext(events)
        await tell(worker_db, world.incident, "One.")
        event = await anext(events)

    assert (gap["__typename"], gap["reason"], gap["sequence"]) == ("StreamGap", "UNKNOWN_CURSOR", 1)
    assert (event["sequence"], event["update"]["body"]) == (2, "One.")


async def test_a_filter_lets_through_what_matches_and_numbers_skip(
    api: Api, db: Database, worker_db: Database
) -> None:
    world, other = await World.begin(worker_db), await World.begin(worker_db)
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        wanted = {"componentIds": [ids.of(other.partner)]}
        events = following(socket, after=delivery.encode("operator", 0), filter=wanted)
        first = await anext(events)
        await tell(worker_db, world.incident, "Not for this one.")
        await tell(worker_db, other.incident, "For this one.")
        second = await anext(events)

    assert [event["sequence"] for event in (first, second)] == [2, 4]
    assert second["update"]["body"] == "For this one."


async def test_a_heartbeat_comes_when_it_was_asked_for_and_nothing_else_did(
    api: Api, db: Database, worker_db: Database
) -> None:
    await World.begin(worker_db)
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        beat = await anext(following(socket, every="PT5S"))

    assert {name: beat[name] for name in ("__typename", "sequence", "latestSequence", "incident")} == {
        "__typename": "Heartbeat", "sequence": 1, "latestSequence": 1, "incident": None,
    }  # fmt: skip
    assert beat["cursor"] == delivery.encode("operator", 1)


async def test_an_event_that_was_not_notified_arrives_by_polling(
    api: Api, db: Database, worker_db: Database
) -> None:
    world = await World.begin(worker_db)
    wakes = api.app.state.process.wakes
    await wakes.stop()
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        event = asyncio.ensure_future(anext(following(socket)))
        await at_rest(api, 1)
        await tell(worker_db, world.incident, "One.")

        assert (await event)["update"]["body"] == "One."
    wakes.start()


async def test_the_listener_comes_back_when_its_connection_is_lost(
    api: Api, cleaner: asyncpg.Connection
) -> None:
    wakes = api.app.state.process.wakes
    async with asyncio.timeout(20):
        while not wakes.is_listening:  # noqa: ASYNC110  # of the server
            await asyncio.sleep(0)
        ended = await cleaner.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE query LIKE 'LISTEN%' AND datname = current_database()"
        )
        assert len(ended) == 1
        while wakes.is_listening:  # noqa: ASYNC110  # of the server
            await asyncio.sleep(0)
        while not wakes.is_listening:  # noqa: ASYNC110  # of the server
            await asyncio.sleep(0)


async def test_nobody_is_told_of_anothers_events(api: Api, db: Database, worker_db: Database) -> None:
    world = await World.begin(worker_db)
    ana, ben = await world.settle("Ana", money=7), await world.settle("Ben", money=8)
    stream = f"account:{ana.account.id}"
    async with opened(api.socket_url, key=await make.key(db, account=ana.account)) as socket:
        await socket.init()
        events = following(socket, after=delivery.encode(stream, 0))
        await tell(worker_db, ben.incident, "Ben alone.")
        await tell(worker_db, world.incident, "Both.")
        seen = [await anext(events)]
        while not (seen[-1]["update"] and seen[-1]["update"]["body"] == "Both."):
            seen.append(await anext(events))

    assert [event["sequence"] for event in seen] == list(range(1, len(seen) + 1))
    assert {event["incident"]["id"] for event in seen} == {ids.of(world.incident), ids.of(ana.incident)}
    assert "Ben" not in str(seen)


async def test_a_reader_that_does_not_read_is_cut_off_and_the_others_are_not(
    api: Api, db: Database, worker_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SEND_S", 0.5)
    world = await World.begin(worker_db)
    update = await make.update(worker_db, world.incident, body="x" * 20_000)
    async with worker_db.transaction() as session:
        for _ in range(600):
            await feed.record(
                session, world.incident, "incident.updated", actor=DETECTOR, at=NOON, update=update
            )
    await publish(worker_db)
    key = await make.key(db)
    start = delivery.encode("operator", 0)
    narrow = tcp()
    narrow.setsockopt(SOL_SOCKET, SO_RCVBUF, 16_384)
    narrow.connect(("127.0.0.1", int(api.url.rpartition(":")[2])))
    async with (
        opened(api.socket_url, key=key, max_queue=1, sock=narrow, compression=None) as slow,
        opened(api.socket_url, key=key) as quick,
    ):
        for socket in (slow, quick):
            await socket.init()
        await slow.subscribe(FEED + EVENT, after=start)
        events = following(quick, after=start)
        assert [(await anext(events))["sequence"] for _ in range(601)] == list(range(1, 602))
        await at_rest(api, 1)

        assert await slow.closed() == 4408
