"""The door for Stripe's webhooks. Its signature is the only proof; what is answered with 200 is durable."""

from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.http import bodies
from api.http.bodies import BodyRefused
from api.process import Process
from domain.core.errors import DomainError
from domain.stripe import signature
from domain.stripe.models import EndpointNotFound, SecretUnreadable
from domain.stripe.service import Receipt
from domain.telemetry import outages
from domain.telemetry.outages import Unavailable

router = APIRouter()
_STATUSES: Mapping[type[DomainError], int] = {
    EndpointNotFound: 404,
    SecretUnreadable: 503,
    Unavailable: 503,
}
_MOST_BYTES = 1024 * 1024
_RETRY_AFTER = {"Retry-After": "30"}


@router.post("/v1/events/stripe")
async def event(request: Request) -> Response:
    """Take an event of the endpoint that `?endpoint=` names, or of the one in the settings."""
    process: Process = request.app.state.process
    try:
        receipt = await _receive(request, process, at=datetime.now(UTC))
    except BodyRefused as error:
        return _refused(error.status, error)
    except DomainError as error:
        status = next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), 400)
        return _refused(status, error)
    state = receipt.state or "REPEATED"
    process.metrics.add("vitals_stripe_events_total", type=receipt.kind, state=state.lower())
    return JSONResponse({"received": True})


async def _receive(request: Request, process: Process, *, at: datetime) -> Receipt:
    """Take an event; what cannot be proven whatever its body says is refused before the body is read."""
    header = request.headers.get(signature.HEADER)
    signature.parse(header)
    with process.stripe.admission.enter(at) as room, outages.told():
        named = _id(request.query_params.get("endpoint"))
        endpoint = await process.stripe.endpoint(named, at=at)
        body = await bodies.read(request, most=_MOST_BYTES, hold=room.take)
        signature.verify(header, body, endpoint.secrets, at=at)
        return await process.stripe.receive(endpoint, body, at=at)


def _id(named: str | None) -> UUID | None:
    try:
        return UUID(named) if named is not None else None
    except ValueError:
        raise EndpointNotFound(named) from None


def _refused(status: int, error: Exception) -> Response:
    code = getattr(error, "code", None)
    told = {"message": str(error), **({"code": code} if code else {})}
    return JSONResponse({"error": told}, status, _RETRY_AFTER if status == 503 else None)
