"""Thin notifications, which say that something happened and not what: that is fetched from Stripe.

Nothing is open meanwhile. Who fetches has leased the event by setting its next attempt; what a crash leaves
is fetched again then.
"""

import asyncio
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import httpx
from sqlalchemy import text

from domain.core.db import Database
from domain.stripe import events, judging
from domain.stripe.models import NoEvent, State, StripeEvent
from domain.stripe.queries import OF_SETTINGS

BACK_OFF = (timedelta(minutes=1), timedelta(minutes=10), timedelta(hours=1))
TRIES = len(BACK_OFF)
_ATTEMPT_S, _BUDGET_S = 10.0, 30.0
_MOST_BYTES = 256 * 1024

# The operator's key speaks for the platform: what a merchant's endpoint names is not asked for with it.
_LEASE = text(
    """
    UPDATE stripe_events SET attempts = attempts + 1,
      next_attempt_at = CAST(:at AS timestamptz)
        + (CAST(:back_off AS interval[]))[least(attempts + 1, :tries)]
    WHERE (endpoint_id, id) = (
      SELECT e.endpoint_id, e.id FROM stripe_events e
      LEFT JOIN stripe_endpoints p ON p.id = e.endpoint_id AND p.removed_at IS NULL
      WHERE e.state = 'UNRESOLVED' AND e.next_attempt_at <= :at
        AND (e.endpoint_id = :of_settings OR p.id IS NOT NULL AND p.account_id IS NULL)
      ORDER BY e.next_attempt_at LIMIT 1 FOR UPDATE OF e SKIP LOCKED
    )
    RETURNING endpoint_id, id, type, stripe_account, attempts
    """
)


@dataclass(frozen=True)
class Api:
    """Stripe's API as the operator has it."""

    host: str
    key: str
    version: str


class NotFetched(Exception):
    """What Stripe answered is not the event; the text is a sentence for people."""


@dataclass(frozen=True)
class _Leased:
    endpoint_id: UUID
    id: str
    type: str
    stripe_account: str | None
    attempts: int


async def resolve_waiting(db: Database, api: Api, at: datetime) -> int:
    """Fetch what waits to be resolved, for some time; how many events were resolved. Safe in twos."""
    began, resolved = time.monotonic(), 0
    async with httpx.AsyncClient(timeout=_ATTEMPT_S, follow_redirects=False) as client:
        while time.monotonic() - began < _BUDGET_S:
            leased = await _lease(db, at=at)
            if leased is None:
                break
            resolved += await _resolve(db, client, api, leased)
    return resolved


async def _lease(db: Database, *, at: datetime) -> _Leased | None:
    """The event that waits longest; until its next attempt nobody else gets it."""
    binds = {"at": at, "back_off": list(BACK_OFF), "tries": TRIES, "of_settings": OF_SETTINGS}
    async with db.transaction() as session:
        row = (await session.execute(_LEASE, binds)).first()
    return _Leased(*row) if row else None


async def _resolve(db: Database, client: httpx.AsyncClient, api: Api, leased: _Leased) -> int:
    if leased.attempts > TRIES:  # whoever was at it the last time did not come to tell
        await _settle(db, leased, State.FAILED, remark="It was never fetched to the end.")
        return 0
    try:
        body = await fetch(client, api, leased.id, context=leased.stripe_account)
        _require_same(body, leased)
    except NotFetched as error:
        state = State.FAILED if leased.attempts >= TRIES else State.UNRESOLVED
        await _settle(db, leased, state, remark=str(error))
        return 0
    is_health = leased.type.startswith(judging.HEALTH)
    state = State.TAKEN if is_health else State.IGNORED
    await _settle(db, leased, state, remark=None, payload=body if is_health else None)
    return 1


async def fetch(client: httpx.AsyncClient, api: Api, event_id: str, *, context: str | None) -> bytes:
    """The event with that id, as JSON; NotFetched for every other answer, and for none in time.

    `event_id` is one that `events.parse` took: it cannot lead to another path.
    """
    headers = {"authorization": f"Bearer {api.key}", "stripe-version": api.version}
    if context:
        headers["stripe-context"] = context
    url = f"{api.host.rstrip('/')}/v2/core/events/{event_id}"
    try:
        async with asyncio.timeout(_ATTEMPT_S), client.stream("GET", url, headers=headers) as response:
            if response.status_code != 200:
                raise NotFetched(f"Stripe answered {response.status_code}.")
            return await _read(response)
    except TimeoutError:
        raise NotFetched(f"Stripe did not answer within {_ATTEMPT_S:.0f} s.") from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise NotFetched(f"Stripe could not be asked: {type(error).__name__}.") from None


async def _read(response: httpx.Response) -> bytes:
    content = bytearray()
    async for part in response.aiter_bytes():
        content += part
        if len(content) > _MOST_BYTES:
            raise NotFetched(f"Stripe answered with more than {_MOST_BYTES} bytes.")
    return bytes(content)


def _require_same(body: bytes, leased: _Leased) -> None:
    try:
        event = events.parse(body)
    except NoEvent as error:
        raise NotFetched(f"Stripe answered with something else: {error}") from None
    if (event.id, event.type) != (leased.id, leased.type):
        raise NotFetched("Stripe answered with another event.")


async def _settle(
    db: Database, leased: _Leased, state: State, *, remark: str | None, payload: bytes | None = None
) -> None:
    """What became of this attempt, unless another one has told already."""
    async with db.transaction() as session:
        kept = await session.get(StripeEvent, (leased.endpoint_id, leased.id), with_for_update=True)
        if kept is None or kept.state is not State.UNRESOLVED:
            return
        kept.state, kept.remark = state, remark
        if state is not State.UNRESOLVED:
            kept.next_attempt_at = None
        if state in (State.TAKEN, State.IGNORED):
            kept.payload = payload
