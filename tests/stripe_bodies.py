"""Events as Stripe sends them, and its signature: builders with defaults for all that a test leaves open."""

import copy
import hmac
import json
from collections import Counter
from datetime import UTC, datetime
from itertools import count
from typing import Any

from sqlalchemy import select

from domain.catalog.models import Account
from domain.core.db import Database
from domain.telemetry import columns
from domain.telemetry.models import IngestLog, Series
from tests.make import NOON

SECRET = "whsec_0123456789abcdefghij"
NOON_S = int(NOON.timestamp())
VISA = {"type": "card", "card": {"brand": "visa", "network": "visa", "country": "BR"}}
_number = count(1)

Json = dict[str, Any]
Logged = Counter[tuple[str, str, str, datetime]]


def event(type_: str, object_: Json, *, previous: Json | None = None, **fields: Any) -> Json:
    """A live event of NOON, about `object_`."""
    data: Json = {"object": object_}
    if previous is not None:
        data["previous_attributes"] = previous
    defaults = {
        "id": f"evt_{next(_number)}",
        "object": "event",
        "type": type_,
        "created": NOON_S,
        "livemode": True,
        "data": data,
        "pending_webhooks": 1,
    }
    return defaults | fields


def charge(**fields: Any) -> Json:
    """A charge of 10.00 BRL to a Brazilian Visa card, authorized and captured."""
    defaults: Json = {
        "id": f"ch_{next(_number)}",
        "object": "charge",
        "amount": 1000,
        "amount_refunded": 0,
        "captured": True,
        "currency": "brl",
        "failure_code": None,
        "outcome": {"network_status": "approved_by_network", "reason": None, "type": "authorized"},
        "payment_intent": "pi_1",
        "payment_method_details": copy.deepcopy(VISA),
        "billing_details": {"address": {"country": "PT"}},
    }
    return defaults | fields


def declined(code: str = "insufficient_funds", **fields: Any) -> Json:
    outcome = {"network_status": "declined_by_network", "reason": code, "type": "issuer_declined"}
    return charge(captured=False, failure_code="card_declined", outcome=outcome, **fields)


def intent(**fields: Any) -> Json:
    """A payment intent without a charge."""
    defaults: Json = {
        "id": f"pi_{next(_number)}",
        "object": "payment_intent",
        "amount": 1000,
        "currency": "brl",
        "latest_charge": None,
        "payment_method": None,
        "payment_method_types": ["card"],
        "last_payment_error": None,
        "cancellation_reason": None,
    }
    return defaults | fields


def thin(type_: str = "v2.core.health.api_error.firing", **fields: Any) -> Json:
    """A notification of API v2: it says that something happened, and not what."""
    defaults = {
        "id": f"evt_test_{next(_number)}",
        "object": "v2.core.event",
        "type": type_,
        "created": "2026-11-23T12:00:00.250Z",
        "livemode": True,
        "context": None,
        "related_object": None,
    }
    return defaults | fields


def body(event_: Json) -> bytes:
    return json.dumps(event_).encode()


def signed(content: bytes, *, at: datetime, secret: str = SECRET) -> str:
    """The header that proves the body."""
    second = int(at.timestamp())
    digest = hmac.digest(secret.encode(), f"{second}.".encode() + content, "sha256").hex()
    return f"t={second},v1={digest},v0=00"


async def logged(worker_db: Database) -> Logged:
    """What the log adds to each series of each account (external ids) in each minute; labels as one text."""
    async with worker_db.read() as session:
        batches = [columns.decode(one) for one in await session.scalars(select(IngestLog.columns))]
        names = {row.id: row.external_id for row in await session.scalars(select(Account))}
        series = {(row.account_id, row.number): row for row in await session.scalars(select(Series))}
    found: Logged = Counter()
    for batch in batches:
        for row in range(len(batch)):
            account = batch.accounts[batch.account[row]]
            one = series[account, int(batch.number[row])]
            text = " ".join(f"{key}={value}" for key, value in sorted(one.labels.items()))
            at = datetime.fromtimestamp(int(batch.at[row]), UTC)
            found[names[account], one.metric, text, at] += int(batch.value[row])
    return found
