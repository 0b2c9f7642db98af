"""The protocol of the sockets, to the letter, and who may open one."""

import asyncio
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from domain.access import service as access
from domain.access.credentials import Credential
from domain.core.db import Database
from tests import make
from tests.api.conftest import Api
from tests.api.sockets import PROTOCOL, opened
from tests.make import NOON

VIEWER = "{ viewer { kind } }"
FEED = "subscription { incidentUpdates { sequence } }"


async def test_the_key_is_given_in_the_handshake_or_in_the_first_message(api: Api, db: Database) -> None:
    key = await make.key(db)
    async with opened(api.socket_url, key=key) as socket:
        await socket.init()
        await socket.subscribe(VIEWER)
        assert await socket.next() == {"viewer": {"kind": "OPERATOR"}}
        assert await socket.receive() == {"type": "complete", "id": "1"}
    async with opened(api.socket_url) as socket:
        await socket.init({"authorization": f"Bearer {key}"})
        await socket.subscribe(VIEWER)
        assert await socket.next() == {"viewer": {"kind": "OPERATOR"}}


@pytest.mark.parametrize("payload", [None, {}, {"authorization": "Bearer vk_no"}, {"authorization": 1}])
async def test_a_socket_without_a_valid_key_is_closed(api: Api, payload: Any) -> None:
    async with opened(api.socket_url) as socket:
        await socket.send({"type": "connection_init", "payload": payload})

        assert await socket.closed() == 4403


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://127.0.0.1:1", "http://127.0.0.1.evil.example"]
)
async def test_a_page_of_another_origin_cannot_open_a_socket(api: Api, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused:
        async with connect(api.socket_url, subprotocols=[PROTOCOL], origin=origin):  # type: ignore[arg-type]
            pass

    assert refused.value.response.status_code == 403


async def test_a_page_of_our_own_origin_can_open_a_socket(api: Api, db: Database) -> None:
    async with opened(api.socket_url, key=await make.key(db), origin=api.url) as socket:
        await socket.init()


@pytest.mark.parametrize("protocols", [[], ["graphql-ws"], ["other"]])
async def test_only_graphql_transport_ws_is_spoken(api: Api, protocols: list[Any]) -> None:
    async with connect(api.socket_url, subprotocols=protocols or None) as connection:
        await connection.wait_closed()

        assert connection.close_code == 4406


async def test_a_ping_is_answered_also_before_the_acknowledgement(api: Api) -> None:
    async with opened(api.socket_url) as socket:
        await socket.send({"type": "ping"})
        assert await socket.receive() == {"type": "pong"}
        await socket.send({"type": "pong"})
        await socket.send({"type": "ping", "payload": {"a": 1}})
        assert await socket.receive() == {"type": "pong"}


SUBSCRIBE = {"type": "subscribe", "id": "1", "payload": {"query": FEED}}


@pytest.mark.parametrize(
    "message",
    [
        "", "x", "null", "1", '"x"', "[]", "{}", '{"type": 1}', '{"type": ["ping"]}', '{"type": "nope"}',
        "[" * 50_000,
        {**SUBSCRIBE, "id": 1}, {**SUBSCRIBE, "id": []}, {**SUBSCRIBE, "id": ""}, {**SUBSCRIBE, "id": None},
        {**SUBSCRIBE, "payload": None}, {**SUBSCRIBE, "payload": {}}, {**SUBSCRIBE, "payload": {"query": 1}},
        {**SUBSCRIBE, "payload": {"query": FEED, "variables": []}}, {**SUBSCRIBE, "payload": []},
        {"type": "subscribe", "id": "1"}, {"type": "complete"}, {"type": "complete", "id": 1},
        {"type": "ping", "payload": 1}, {"type": "connection_init", "payload": 1}, b"\x00\x01",
        '{"type": "ping", "payload": {"a": "' + "a" * 300_000 + '"}}',
    ],
    ids=range(27),
)  # fmt: skip
async def test_a_malformed_message_closes_with_4400(api: Api, db: Database, message: Any) -> None:
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        await socket.send(message)

        assert await socket.closed() == 4400


async def test_an_operation_before_the_acknowledgement_closes_with_4401(api: Api, db: Database) -> None:
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.send(SUBSCRIBE)

        assert await socket.closed() == 4401


async def test_a_second_initialisation_closes_with_4429(api: Api, db: Database) -> None:
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        await socket.send({"type": "connection_init"})

        assert await socket.closed() == 4429


async def test_an_id_in_use_closes_with_4409_and_one_that_is_done_can_be_used_again(
    api: Api, db: Database
) -> None:
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        for _ in range(2):
            await socket.subscribe(VIEWER)
            await socket.next()
            assert (await socket.receive())["type"] == "complete"
        await socket.send(SUBSCRIBE)
        await socket.send(SUBSCRIBE)

        assert await socket.closed() == 4409


@pytest.mark.parametrize(
    "query",
    [
        "{",
        "{ nope }",
        "subscription { incidentUpdates { nope } }",
        "query A { viewer { kind } } query B { viewer { kind } }",
    ],
)
async def test_a_document_that_is_not_executed_ends_its_operation_and_not_the_socket(
    api: Api, db: Database, query: str
) -> None:
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        await socket.subscribe(query)
        message = await socket.receive()

        assert (message["type"], message["id"]) == ("error", "1")
        assert {error["extensions"]["code"] for error in message["payload"]} == {"BAD_USER_INPUT"}
        await socket.subscribe(VIEWER)
        assert await socket.next() == {"viewer": {"kind": "OPERATOR"}}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ('after: "x"', "This cursor is not one of ours."),
        ('heartbeatEvery: "PT1S"', "`heartbeatEvery` must be from PT5S to PT5M."),
    ],
)
async def test_arguments_of_a_subscription_are_refused_before_it_begins(
    api: Api, db: Database, arguments: str, message: str
) -> None:
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        await socket.subscribe(f"subscription {{ incidentUpdates({arguments}) {{ sequence }} }}")
        refused = await socket.receive()

        assert refused["type"] == "error"
        assert [(e["message"], e["extensions"]["code"]) for e in refused["payload"]] == [
            (message, "BAD_USER_INPUT")
        ]


async def test_a_key_without_the_scope_cannot_subscribe(api: Api, db: Database) -> None:
    async with opened(api.socket_url, key=await make.key(db, scopes=["accounts:read"])) as socket:
        await socket.init()
        await socket.subscribe(FEED)
        refused = await socket.receive()

        assert refused["type"] == "error"
        assert [error["extensions"]["code"] for error in refused["payload"]] == ["FORBIDDEN"]


async def test_the_operations_of_a_socket_are_limited(api: Api, db: Database) -> None:
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        for number in range(21):
            await socket.subscribe(FEED, id=str(number))
        refused = await socket.receive()

        assert (refused["type"], refused["id"]) == ("error", "20")


async def test_operations_of_one_socket_run_side_by_side(api: Api, db: Database) -> None:
    async with opened(api.socket_url, key=await make.key(db)) as socket:
        await socket.init()
        await socket.subscribe(FEED, id="feed")
        wanted = {str(number) for number in range(10)}
        for id in wanted:
            await socket.subscribe("{ incidents { edges { cursor } } services { edges { cursor } } }", id=id)
        done = {(await socket.receive())["id"] for _ in range(20)}

        assert done == wanted


async def test_a_revoked_key_loses_its_open_sockets(api: Api, db: Database) -> None:
    key = await make.key(db)
    async with opened(api.socket_url, key=key) as socket:
        await socket.init()
        await socket.subscribe(FEED)
        async with db.transaction("operator") as session:
            await access.revoke(session, Credential.parse(key).prefix, by="test", at=NOON)

        assert await socket.closed() == 4403


async def test_a_dropped_socket_leaves_nothing_behind(api: Api, db: Database) -> None:
    pool, wakes = api.app.state.process.db.engine.pool, api.app.state.process.wakes
    key = await make.key(db)
    for _ in range(20):
        async with opened(api.socket_url, key=key) as socket:
            await socket.init()
            await socket.subscribe(FEED)
            await socket.subscribe("{ incidents { edges { cursor } } }", id="2")
            await socket.drop()

    async with asyncio.timeout(20):
        while pool.checkedout() or wakes.readers:  # noqa: ASYNC110  # of the server
            await asyncio.sleep(0)
