"""The door for telemetry, NDJSON and OTLP. What is acknowledged is durable."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.auth import principal_of
from api.http import bodies
from api.http.bodies import BodyRefused
from api.process import Process
from domain.access.models import Unauthenticated
from domain.access.principal import Principal
from domain.core.errors import DomainError, IdempotencyKeyReused
from domain.telemetry import ingest, ndjson, otlp
from domain.telemetry.columns import Key
from domain.telemetry.points import Point, PointsRejected, Problem
from domain.telemetry.service import KEEP_MINUTES

router = APIRouter()
PROTOBUF, JSON = "application/x-protobuf", "application/json"
_MOST_KEY = 255
_NO_ACCOUNT = "is no account that this key can write to"
_GRPC_INVALID_ARGUMENT = 3


@router.post("/v1/points")
async def points(request: Request) -> Response:
    """Points, one a line: all are taken or none."""
    return await _answered(request, _take_points, _as_json)


@router.post("/v1/metrics")
async def metrics(request: Request) -> Response:
    """An OTLP metrics request: good data points are taken, the others counted in the reply."""
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type not in (PROTOBUF, JSON):
        return JSONResponse({"message": f"Content-Type must be {PROTOBUF} or {JSON}."}, 415)
    return await _answered(request, _take_metrics, _as_status)


Taken = tuple[Process, Principal, ingest.Request]


async def _answered(
    request: Request,
    take: Callable[[Request, Taken], Awaitable[Response]],
    refuse: Callable[[Request, int, str, dict[str, Any]], Response],
) -> Response:
    """Prove who asks, read the body, take it; every refusal in the form of the format."""
    try:
        principal = await principal_of(request)
        if "telemetry:write" not in principal.scopes:
            return refuse(request, 403, "This key lacks the scope telemetry:write.", {})
        body = await bodies.read(request)
        return await take(request, (request.app.state.process, principal, _request(request, principal, body)))
    except BodyRefused as error:
        return refuse(request, error.status, str(error), {})
    except Unauthenticated as error:
        return refuse(request, 401, str(error), {"code": error.code})
    except PointsRejected as error:
        return refuse(request, 422, str(error), {"code": error.code, **_problems(error)})
    except DomainError as error:
        status = 409 if isinstance(error, IdempotencyKeyReused) else 400
        return refuse(request, status, str(error), {"code": error.code})


def _request(request: Request, principal: Principal, body: bytes) -> ingest.Request:
    key = request.headers.get("idempotency-key")
    if key is not None and not 1 <= len(key) <= _MOST_KEY:
        raise BodyRefused(400, f"Idempotency-Key must have 1 to {_MOST_KEY} characters.")
    return ingest.Request(
        scope=principal.scope,
        subject=principal.subject,
        body=body,
        idempotency_key=key,
        is_backfill=request.query_params.get("backfill") == "true",
        received_at=datetime.now(UTC),
    )


async def _take_points(request: Request, taken: Taken) -> Response:
    process, principal, asked = taken
    found = ndjson.decode(asked.body, at=asked.received_at, oldest=asked.received_at - KEEP_MINUTES)
    keys = await _keys(process, principal, asked, found)
    unknown = [
        Problem(p.number, "account", _NO_ACCOUNT) for p, key in zip(found, keys, strict=True) if key is None
    ]
    if unknown:
        raise PointsRejected(unknown)
    known = [key for key in keys if key is not None]
    reply = await ingest.append(process.db, asked, found, known, reply={"accepted": len(found)})
    return JSONResponse(reply)


async def _take_metrics(request: Request, taken: Taken) -> Response:
    process, principal, asked = taken
    as_json = JSON in request.headers.get("content-type", "")
    decode = otlp.decode_json if as_json else otlp.decode_protobuf
    oldest = asked.received_at - KEEP_MINUTES
    found, rejected = decode(asked.body, at=asked.received_at, oldest=oldest)
    keys = await _keys(process, principal, asked, found)
    pairs = list(zip(found, keys, strict=True))
    rejected += [Problem(p.number, p.metric, _NO_ACCOUNT, p.parts) for p, key in pairs if key is None]
    good = [(point, key) for point, key in pairs if key is not None]
    body = otlp.reply(rejected, as_json=as_json)
    reply = await ingest.append(
        process.db, asked, [p for p, _ in good], [k for _, k in good], reply={"body": body.hex()}
    )
    return Response(bytes.fromhex(reply["body"]), media_type=JSON if as_json else PROTOBUF)


async def _keys(
    process: Process, principal: Principal, asked: ingest.Request, found: Sequence[Point]
) -> list[Key | None]:
    return await process.registry.keys(
        found, scope=principal.scope, subject=principal.subject, at=asked.received_at
    )


def _problems(error: PointsRejected) -> dict[str, Any]:
    problems = [{"line": p.number, "field": p.field, "message": p.message} for p in error.problems]
    return {"problems": problems, "total": error.total}


def _as_json(_: Request, status: int, message: str, more: dict[str, Any]) -> Response:
    return JSONResponse({"error": {"message": message, **more}}, status)


def _as_status(request: Request, status: int, message: str, _: dict[str, Any]) -> Response:
    """A `google.rpc.Status`, as OTLP wants it, in the encoding of the request."""
    if JSON in request.headers.get("content-type", ""):
        return JSONResponse({"code": _GRPC_INVALID_ARGUMENT, "message": message}, status)
    text = message.encode()[:100]
    body = bytes([0x08, _GRPC_INVALID_ARGUMENT, 0x12, len(text)]) + text
    return Response(body, status, media_type=PROTOBUF)
