"""The door for partners' status pages: what was seen there at one time, applied by the workers in order."""

from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from api.auth import principal_of
from api.http import bodies
from api.http.bodies import BodyRefused
from domain.access.models import PrincipalKind, Unauthenticated
from domain.catalog import queries as catalog
from domain.catalog.models import ComponentNotFound
from domain.core.errors import Conflict, DomainError, InvalidInput, NotFound
from domain.statuspages import service as statuspages

router = APIRouter()


@router.post("/v1/partners/{code}/statuspage")
async def snapshot(request: Request, code: str) -> Response:
    """Take the page's `summary.json` as it was at `observed_at` (RFC 3339; left out: now)."""
    try:
        taken = await _take(request, code)
    except Unauthenticated as error:
        return _refused(401, error)
    except BodyRefused as error:
        return _refused(error.status, error)
    except DomainError as error:
        statuses = {NotFound: 404, Conflict: 409}
        status = next((s for kind, s in statuses.items() if isinstance(error, kind)), 422)
        return _refused(status, error)
    return JSONResponse({"isNew": taken}, 202)


async def _take(request: Request, code: str) -> bool:
    principal = await principal_of(request)
    if "status:write" not in principal.scopes:
        raise BodyRefused(403, "This key lacks the scope status:write.")
    at = datetime.now(UTC)
    observed_at = _instant(request.query_params.get("observed_at"), default=at)
    body = await bodies.read(request)
    async with request.app.state.process.db.transaction(principal.scope) as session:
        partner = await catalog.partner_by_code(session, code)
        if partner is None or principal.kind is PrincipalKind.MERCHANT:
            raise ComponentNotFound(code)
        return await statuspages.receive(session, partner.id, body, observed_at=observed_at, at=at)


def _instant(text: str | None, *, default: datetime) -> datetime:
    if text is None:
        return default
    try:
        instant = datetime.fromisoformat(text)
        if instant.tzinfo is None:
            raise ValueError
    except ValueError:
        raise InvalidInput(f"observed_at must be a time with its zone, not {text[:60]!r}.") from None
    if instant > default:
        raise InvalidInput("observed_at is in the future.")
    return instant.astimezone(UTC)


def _refused(status: int, error: Exception) -> Response:
    code = getattr(error, "code", None)
    return JSONResponse({"error": {"message": str(error), **({"code": code} if code else {})}}, status)
