"""Every request gets an id and is counted; what fails unforeseen is logged, and told without detail."""

import json
import logging
import re
from time import perf_counter
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from domain.core.ids import uuid7

HEADER = "X-Request-Id"
_SANE = re.compile(r"[A-Za-z0-9._-]{1,100}")

log = logging.getLogger(__name__)


def request_id(scope: Scope) -> str:
    """The id of the request that `Requests` has taken in."""
    found: str = scope["state"]["request_id"]
    return found


class Requests:
    """The outermost middleware, plain ASGI, so that a dropped request leaves nothing behind."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        given = Headers(scope=scope).get(HEADER, "")
        exchange = _Exchange(scope, send, given if _SANE.fullmatch(given) else uuid7().hex)
        scope.setdefault("state", {})["request_id"] = exchange.request_id
        try:
            await self.app(scope, receive, exchange.send)
        except Exception as error:
            log.error("Request %s failed", exchange.request_id, exc_info=error)
            await exchange.fail()
        finally:
            exchange.count()


class _Exchange:
    """One request and what was answered to it."""

    def __init__(self, scope: Scope, send: Send, request_id: str) -> None:
        self.request_id = request_id
        self._scope, self._send = scope, send
        self._begun, self._status = perf_counter(), 0
        self._is_socket = scope["type"] == "websocket"

    async def send(self, message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.accept", "websocket.http.response.start"):
            self._status = message.get("status", 101)
            message.setdefault("headers", [])
            MutableHeaders(scope=message)[HEADER] = self.request_id
        await self._send(message)

    async def fail(self) -> None:
        if self._is_socket:
            await self._send({"type": "websocket.close", "code": 1011, "reason": self.request_id})
        elif not self._status:
            body = json.dumps(masked(self.request_id)).encode()
            headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
            await self.send({"type": "http.response.start", "status": 500, "headers": headers})
            await self._send({"type": "http.response.body", "body": body})

    def count(self) -> None:
        process: Any = getattr(self._scope["app"].state, "process", None) if "app" in self._scope else None
        if process is None:
            return
        # A route's own path, never the one that was asked for: those are no closed set.
        route = getattr(self._scope.get("route"), "path", "other")
        status = str(self._status or 500)
        process.metrics.add("vitals_http_requests_total", route=route, status=status)
        if not self._is_socket:
            process.metrics.add(
                "vitals_http_request_seconds_total", perf_counter() - self._begun, route=route
            )


def masked(request_id: str) -> dict[str, Any]:
    message = "Something went wrong on our side."
    return {"errors": [{"message": message, "extensions": {"code": "INTERNAL", "requestId": request_id}}]}
