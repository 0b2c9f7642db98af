"""GraphQL over WebSockets, by the protocol graphql-transport-ws and no other.

A socket proves its key as it begins and again every few seconds; what cannot be read closes it with 4400.
"""

import asyncio
import contextlib
import json
import logging
from typing import Any

from sqlalchemy.exc import SQLAlchemyError
from starlette.requests import HTTPConnection
from starlette.types import Receive, Scope, Send
from strawberry.asgi import GraphQL
from strawberry.subscriptions import GRAPHQL_TRANSPORT_WS_PROTOCOL
from strawberry.subscriptions.protocols.graphql_transport_ws.handlers import BaseGraphQLTransportWSHandler

from api.auth import RECHECK_S
from api.graphql.context import Context
from api.graphql.http import MAX_BODY, Parameters, Refused, parse
from api.graphql.schema import schema
from api.process import Process
from api.requests import request_id
from domain.access.models import Unauthenticated

log = logging.getLogger(__name__)

MAX_OPERATIONS = 20
SEND_S = 20
"""How long a reader may leave a message untaken."""


class Handler(BaseGraphQLTransportWSHandler[Any, None]):
    """One socket."""

    _watching: asyncio.Task[None] | None = None
    _closing: asyncio.Task[None] | None = None

    async def handle(self) -> None:
        metrics = self._process.metrics
        metrics.add("vitals_sockets")
        try:
            await super().handle()
        finally:
            metrics.add("vitals_sockets", -1)

    async def shutdown(self) -> None:
        for task in (self._watching, self._closing):
            if task is not None:
                task.cancel()
        await super().shutdown()

    @property
    def _connection(self) -> HTTPConnection:
        connection: HTTPConnection = self.websocket.ws  # type: ignore[attr-defined]  # of Starlette's adapter
        return connection

    @property
    def _process(self) -> Process:
        process: Process = self._connection.app.state.process
        return process

    async def send_message(self, message: Any) -> None:
        try:
            async with asyncio.timeout(SEND_S):
                await super().send_message(message)
        except TimeoutError:
            self._cut_off()

    def _cut_off(self) -> None:
        """Ends what a reader asked for that does not read: it can resume after its last cursor.

        It is told once it reads again; if it never does, the server's pings find that out.
        """
        if self._closing is None:
            self._closing = asyncio.create_task(
                self.websocket.close(4408, "Too slow: resume where you were.")
            )
        while self.operations:
            _, operation = self.operations.popitem()
            if operation.task is not None:
                operation.task.cancel()

    async def handle_message(self, message: Any) -> None:
        if flaw := _flaw(message):
            await self.handle_invalid_message(flaw)
            return
        await super().handle_message(message)

    async def handle_connection_init(self, message: Any) -> None:
        """The key is that of the handshake or, from browsers, which cannot set headers, of the payload."""
        payload = message.get("payload") or {}
        authorization = payload.get("authorization") or self._connection.headers.get("authorization")
        if not self.connection_init_received:
            try:
                principal = await self._process.keys.identify(authorization)
            except Unauthenticated:
                await self.websocket.close(4403, "Forbidden")
                return
            self.context = Context(self._process, principal, request_id(self._connection.scope))
            self._watching = asyncio.create_task(self._watch(authorization))
        await super().handle_connection_init({"type": "connection_init", "payload": payload})

    async def _watch(self, authorization: object) -> None:
        """Ends the socket soon after its key was revoked or has expired."""
        while True:
            await asyncio.sleep(RECHECK_S)
            try:
                await self._process.keys.identify(authorization)
            except Unauthenticated:
                await self.websocket.close(4403, "Forbidden")
                return
            except (SQLAlchemyError, OSError) as error:
                # The database is away: who was proved stays until it can be asked again.
                log.warning("A key could not be proved again: %s", type(error).__name__)

    @staticmethod
    def _get_pre_execution_close_reason(_error: object) -> None:
        """A document that cannot be parsed ends its operation with an error, not the socket."""
        return


def _flaw(message: object) -> str | None:
    """What is wrong with the form of a message; None when it can be handled."""
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        return "A message is an object with a type."
    kind, payload = message["type"], message.get("payload")
    if kind in ("subscribe", "complete") and not (isinstance(message.get("id"), str) and message["id"]):
        return "The id of an operation is a text."
    if kind != "subscribe":
        return None if payload is None or isinstance(payload, dict) else "A payload is an object."
    try:
        asked = parse(json.dumps(payload).encode())
    except Refused as refused:
        return f"The operation cannot be read: {refused}"[:120]
    message["payload"] = _plain(asked)
    return None


def _plain(asked: Parameters) -> dict[str, Any]:
    return {"query": asked.query, "variables": asked.variables, "operationName": asked.operationName}


class Sockets(GraphQL[Any, None]):
    """`/graphql` for WebSockets."""

    graphql_transport_ws_handler_class = Handler

    def __init__(self) -> None:
        super().__init__(
            schema=schema,
            graphql_ide=None,
            subscription_protocols=[GRAPHQL_TRANSPORT_WS_PROTOCOL],
            max_subscriptions_per_connection=MAX_OPERATIONS,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        # What ended the connection ends the operations; there is nobody to be told.
        with contextlib.suppress(ConnectionError):
            await super().__call__(scope, receive, send)

    def decode_json(self, data: str | bytes) -> object:
        """Anything that is not JSON is a JSONDecodeError, whatever it is instead."""
        if len(data) > MAX_BODY:
            raise json.JSONDecodeError("too long", "", 0)
        try:
            return json.loads(data)
        except (ValueError, RecursionError) as error:
            raise json.JSONDecodeError("not JSON", "", 0) from error

    async def get_context(self, request: Any, response: Any) -> Any:
        """Nobody yet: `connection_init` tells who it is."""
        return None
