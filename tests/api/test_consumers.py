"""Named readers acknowledge what they have dealt with, and go on from there."""

from typing import Any

from domain.core.db import Database
from domain.delivery import queries as delivery
from tests import make
from tests.api.conftest import Api, Client, ClientOf
from tests.api.sockets import opened
from tests.api.test_feed import publish, tell
from tests.api.worlds import World

ACKNOWLEDGE = """
mutation ($consumer: String!, $cursor: String!) {
  acknowledgeIncidentEvents(input: {consumer: $consumer, cursor: $cursor}) {
    ... on ConsumerSuccess { consumer { name acknowledgedSequence acknowledgedCursor lag } }
    ... on InvalidInput { problems { path message } }
  }
}
"""
RESUME = "subscription ($consumer: String) { incidentUpdates(consumer: $consumer) { sequence } }"


async def acknowledge(client: Client, consumer: str, cursor: str) -> dict[str, Any]:
    found: dict[str, Any] = await client.ask(ACKNOWLEDGE, consumer=consumer, cursor=cursor)
    result: dict[str, Any] = found["acknowledgeIncidentEvents"]
    return result


async def test_a_named_reader_resumes_where_it_last_acknowledged(
    api: Api, client_of: ClientOf, worker_db: Database
) -> None:
    world = await World.begin(worker_db)
    await tell(worker_db, world.incident, "One.", "Two.", "Three.")
    client = await client_of()
    done = await acknowledge(client, "status page", delivery.encode("operator", 2))
    assert done["consumer"]["acknowledgedSequence"] == 2
    assert done["consumer"]["lag"] == 2

    async with opened(api.socket_url, key=client.key) as socket:
        await socket.init()
        await socket.subscribe(RESUME, consumer="status page")
        seen = [(await socket.next())["incidentUpdates"]["sequence"] for _ in range(2)]
    assert seen == [3, 4]


async def test_a_place_moves_forward_and_never_back(client_of: ClientOf, worker_db: Database) -> None:
    world = await World.begin(worker_db)
    await tell(worker_db, world.incident, "One.", "Two.")
    client = await client_of()
    for sequence, place in ((1, 1), (3, 3), (2, 3)):
        done = await acknowledge(client, "reader", delivery.encode("operator", sequence))
        assert done["consumer"]["acknowledgedSequence"] == place
    found = await client.ask("{ viewer { consumers { name acknowledgedSequence lag } } }")
    assert found["viewer"]["consumers"] == [{"name": "reader", "acknowledgedSequence": 3, "lag": 0}]


async def test_the_readers_of_a_stream_are_read_in_as_many_statements_however_many_there_are(
    api: Api, client_of: ClientOf, worker_db: Database
) -> None:
    world = await World.begin(worker_db)
    await tell(worker_db, world.incident, "One.")
    client = await client_of()
    api.remember_keys()
    counts = []
    for name in ("first", "second", "third"):
        await acknowledge(client, name, delivery.encode("operator", 1))
        with api.statements() as sent:
            found = await client.ask("{ viewer { consumers { name lag } } }")
        counts.append(len(sent))
    assert [one["lag"] for one in found["viewer"]["consumers"]] == [1, 1, 1]
    assert len(set(counts)) == 1


async def test_a_cursor_that_is_none_of_the_stream_is_refused_and_moves_nothing(
    client_of: ClientOf, worker_db: Database
) -> None:
    await World.begin(worker_db)
    await publish(worker_db)
    client = await client_of()
    for cursor in ("nonsense", delivery.encode("public", 1), delivery.encode("operator", 999)):
        refused = await acknowledge(client, "reader", cursor)
        assert refused["problems"][0]["path"] == ["cursor"]
    assert (await client.ask("{ viewer { consumers { name } } }"))["viewer"]["consumers"] == []


async def test_readers_of_another_account_do_not_exist(
    client_of: ClientOf, db: Database, worker_db: Database
) -> None:
    world = await World.begin(worker_db)
    accounts = [(await world.settle(name, money=1)).account for name in ("Ana", "Ben")]
    ana, ben = [await client_of(account=account) for account in accounts]
    await acknowledge(ana, "reader", delivery.encode(f"account:{accounts[0].id}", 1))
    assert len((await ana.ask("{ viewer { consumers { name } } }"))["viewer"]["consumers"]) == 1
    assert (await ben.ask("{ viewer { consumers { name } } }"))["viewer"]["consumers"] == []
    async with db.read(make.merchant(accounts[1]).scope) as session:
        assert await delivery.latest_sequence(session, f"account:{accounts[0].id}") == 0
