"""A client of graphql-transport-ws that shows every message and code, for tests of the protocol itself."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from websockets.typing import Subprotocol

PROTOCOL = Subprotocol("graphql-transport-ws")
WAIT_S = 20


class Socket:
    """Every wait has an end, so that a message that never comes fails the test."""

    def __init__(self, connection: ClientConnection) -> None:
        self.connection = connection

    async def send(self, message: Any) -> None:
        await self.connection.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def receive(self) -> dict[str, Any]:
        async with asyncio.timeout(WAIT_S):
            message: dict[str, Any] = json.loads(await self.connection.recv())
            return message

    async def init(self, payload: Any = None) -> None:
        await self.send({"type": "connection_init", **({"payload": payload} if payload is not None else {})})
        assert (await self.receive())["type"] == "connection_ack"

    async def subscribe(self, query: str, id: str = "1", **variables: Any) -> None:
        payload = {"query": query, "variables": variables}
        await self.send({"type": "subscribe", "id": id, "payload": payload})

    async def next(self, id: str = "1") -> dict[str, Any]:
        """The data of the next result of an operation, which has no errors."""
        message = await self.receive()
        assert (message["type"], message["id"]) == ("next", id), message
        assert "errors" not in message["payload"], message
        data: dict[str, Any] = message["payload"]["data"]
        return data

    async def closed(self) -> int:
        """The code with which the server closes."""
        async with asyncio.timeout(WAIT_S):
            with suppress(ConnectionClosed):
                while True:
                    await self.connection.recv()
        assert self.connection.close_code is not None
        return self.connection.close_code

    async def drop(self) -> None:
        """Gone without a word, as when a network fails."""
        self.connection.transport.abort()
        await self.connection.wait_closed()


@asynccontextmanager
async def opened(url: str, *, key: str | None = None, **options: Any) -> AsyncIterator[Socket]:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    async with connect(url, subprotocols=[PROTOCOL], additional_headers=headers, **options) as connection:
        yield Socket(connection)
