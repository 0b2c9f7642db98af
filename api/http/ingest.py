"""The door for telemetry. What is acknowledged is durable; a refusal has the form of the format."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, TypeVar

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Match, Route
from starlette.types import Scope

from api.auth import principal_of
from api.http import bodies
from api.http.bodies import BodyRefused
from api.process import Process
from domain.access.models import Unauthenticated
from domain.access.principal import Principal
from domain.core.errors import DomainError, IdempotencyKeyReused
from domain.telemetry import ingest, outages
from domain.telemetry.formats import Columnar, Format, Ndjson, Otlp, Traces
from domain.telemetry.outages import Unavailable
from domain.telemetry.points import PointsRejected

PROTOBUF, JSON = "application/x-protobuf", "application/json"
_MOST_KEY = 255
_GRPC_INVALID_ARGUMENT, _GRPC_UNAVAILABLE = 3, 14
_STATUSES: Mapping[type[Exception], int] = {
    Unauthenticated: 401,
    IdempotencyKeyReused: 409,
    PointsRejected: 422,
    Unavailable: 503,
}
_WORDS = {409: "conflict", 503: "unavailable"}

T = TypeVar("T")


@dataclass(eq=False)
class Refusal(Exception):
    """What is answered in place of an acknowledgement; `more` stands beside the message in plain formats."""

    status: int
    message: str
    more: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


Form = Callable[[str, Refusal], Response]


@dataclass(frozen=True)
class Door:
    """A path for points: its formats by content type ("" is any other), and the form of its refusals."""

    formats: Mapping[str, Format]
    refuse: Form

    async def answer(self, request: Request) -> Response:
        """Take the points of a request, and count what became of it."""
        media = _media(request)
        form = self.formats.get(media) or self.formats.get("")
        if form is None:
            return JSONResponse({"message": f"Content-Type must be {' or '.join(self.formats)}."}, 415)
        process: Process = request.app.state.process
        try:
            found = await _received(request, lambda asked: process.intake.take(asked, form))
        except Refusal as refusal:
            word = _WORDS.get(refusal.status, "refused")
            process.metrics.add("vitals_ingest_requests_total", format=form.name, status=word)
            return self.refuse(media, refusal)
        word = "taken" if found.is_new else "repeated"
        process.metrics.add("vitals_ingest_requests_total", format=form.name, status=word)
        return Response(found.content, media_type=media if media == PROTOBUF else JSON)


async def register(request: Request) -> Response:
    """Give numbers to series, for columns of JSON."""
    process: Process = request.app.state.process
    try:
        return JSONResponse({"series": await _received(request, process.intake.register)})
    except Refusal as refusal:
        return _as_json(JSON, refusal)


async def _received(request: Request, take: Callable[[ingest.Request], Awaitable[T]]) -> T:
    """Prove who asks, see whether there is room, read the body, take it; raises Refusal."""
    process: Process = request.app.state.process
    try:
        with outages.told():
            principal = await principal_of(request)
        if "telemetry:write" not in principal.scopes:
            raise Refusal(403, "This key lacks the scope telemetry:write.")
        at = datetime.now(UTC)
        with process.intake.admission.enter(at) as room:
            body = await bodies.read(request, hold=room.take)
            return await take(await _request(request, principal, body, at=at))
    except BodyRefused as error:
        raise Refusal(error.status, str(error)) from None
    except DomainError as error:
        raise _refusal(error) from error


async def _request(request: Request, principal: Principal, body: bytes, *, at: datetime) -> ingest.Request:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= _MOST_KEY:
        raise Refusal(400, f"Idempotency-Key must have 1 to {_MOST_KEY} characters.")
    return ingest.Request(
        scope=principal.scope,
        subject=principal.subject,
        body=body,
        body_hash=await ingest.hashed(body),
        idempotency_key=key,
        is_backfill=request.query_params.get("backfill") == "true",
        received_at=at,
        door=request.url.path,
    )


def _refusal(error: DomainError) -> Refusal:
    more: dict[str, Any] = {"code": error.code}
    if isinstance(error, PointsRejected):
        problems = [{"line": p.number, "field": p.field, "message": p.message} for p in error.problems]
        more |= {"problems": problems, "total": error.total}
    headers = {"Retry-After": str(error.retry_after_s)} if isinstance(error, Unavailable) else {}
    status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 400)
    return Refusal(status, str(error), more, headers)


def _media(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _as_json(_: str, refusal: Refusal) -> Response:
    error = {"message": refusal.message, **refusal.more}
    return JSONResponse({"error": error}, refusal.status, refusal.headers)


def _as_status(media: str, refusal: Refusal) -> Response:
    """A `google.rpc.Status`, as OTLP wants it, in the encoding of the request."""
    code = _GRPC_UNAVAILABLE if refusal.status == 503 else _GRPC_INVALID_ARGUMENT
    if media == JSON:
        return JSONResponse({"code": code, "message": refusal.message}, refusal.status, refusal.headers)
    text = refusal.message.encode()[:100]
    body = bytes([0x08, code, 0x12, len(text)]) + text
    return Response(body, refusal.status, refusal.headers, PROTOBUF)


class _Counted(Route):
    """A plain route, counted under its path: the framework's own cost as much as all that is done here."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        match, child = super().matches(scope)
        return match, {**child, "route": self}


_POINTS = Door({JSON: Columnar(), "": Ndjson()}, _as_json)
_METRICS = Door({PROTOBUF: Otlp(as_json=False), JSON: Otlp(as_json=True)}, _as_status)
_TRACES = Door({PROTOBUF: Traces(as_json=False), JSON: Traces(as_json=True)}, _as_status)
routes = [
    _Counted("/v1/points", _POINTS.answer, methods=["POST"]),
    _Counted("/v1/metrics", _METRICS.answer, methods=["POST"]),
    _Counted("/v1/traces", _TRACES.answer, methods=["POST"]),
    _Counted("/v1/series", register, methods=["POST"]),
]
