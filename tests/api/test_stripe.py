"""Stripe's webhooks over HTTP: proven by their signature, answered once durable, and never with a 5xx."""

import asyncio
import copy
import gzip
import json
import random
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import func, select

from domain.catalog.models import Account
from domain.core.db import Database
from domain.stripe import endpoints
from domain.stripe.models import StripeEvent
from domain.stripe.sealing import Seal
from domain.stripe.service import Receiver
from tests import make
from tests import stripe_bodies as bodies
from tests.api.conftest import Api
from tests.make import NOON
from tests.stripe_bodies import SECRET, charge, event, logged, signed, thin

KEY = "MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
PLATFORM_SECRET = "whsec_that_of_the_platform"
PATH = "/v1/events/stripe"
Json = dict[str, Any]


@pytest.fixture(autouse=True)
async def configured(api: Api) -> AsyncIterator[None]:
    """The process with a key for secrets and a platform's secret in its settings."""
    before = api.app.state.process
    settings = before.settings.model_copy(
        update={"secret_keys": SecretStr(KEY), "stripe_secrets": SecretStr(PLATFORM_SECRET)}
    )
    api.app.state.process = replace(before, stripe=Receiver(before.db, settings))
    yield
    api.app.state.process = before


def now() -> datetime:
    return datetime.now(UTC)


def paid(**fields: Any) -> Json:
    return event("charge.succeeded", charge(), **{"created": int(now().timestamp()), **fields})


async def path_of(db: Database, account: Account | None = None) -> str:
    async with db.transaction("operator") as session:
        row = await endpoints.add(
            session,
            SECRET,
            account=account.external_id if account else None,
            takes_tests=False,
            seal=Seal(KEY),
            by="test",
            at=NOON,
        )
    return f"{PATH}?endpoint={row.id}"


async def post(
    http: httpx.AsyncClient, path: str, content: bytes, *, secret: str = SECRET, at: datetime | None = None
) -> httpx.Response:
    header = signed(content, at=at or now(), secret=secret)
    return await http.post(path, content=content, headers={"stripe-signature": header})


async def events_kept(worker_db: Database) -> int:
    async with worker_db.read() as session:
        return await session.scalar(select(func.count()).select_from(StripeEvent)) or 0


async def test_a_signed_event_is_answered_once_it_is_durable_and_again_without_effect(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    path, content = await path_of(db, await make.account(db)), bodies.body(paid())
    replies = [await post(http, path, content) for _ in range(2)]
    assert [(reply.status_code, reply.json()) for reply in replies] == [(200, {"received": True})] * 2
    assert sum((await logged(worker_db)).values()) == 1001
    found = (await http.get("/metrics")).text
    assert 'vitals_stripe_events_total{state="taken",type="charge.succeeded"}' in found
    assert 'vitals_stripe_events_total{state="repeated",type="charge.succeeded"}' in found


async def test_without_an_endpoint_the_secrets_of_the_settings_are_the_platforms(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    async with db.transaction("operator") as session:
        await endpoints.map_accounts(session, {"acct_1": account.external_id}, by="test", at=NOON)
    reply = await post(http, PATH, bodies.body(paid(account="acct_1")), secret=PLATFORM_SECRET)
    assert reply.status_code == 200
    assert {name for name, *_ in await logged(worker_db)} == {account.external_id}


@pytest.mark.parametrize(
    ("secret", "late", "told"),
    [
        ("whsec_somebody_elses", timedelta(), "No signature in Stripe-Signature is that of this body."),
        (SECRET, timedelta(minutes=6), "The body was signed more than 5 minutes before or after now."),
    ],
)
async def test_a_wrong_or_old_signature_is_a_bad_request_and_nothing_is_kept(
    http: httpx.AsyncClient, db: Database, worker_db: Database, secret: str, late: timedelta, told: str
) -> None:
    path = await path_of(db, await make.account(db))
    reply = await post(http, path, bodies.body(paid()), secret=secret, at=now() - late)
    assert reply.status_code == 400
    assert reply.json() == {"error": {"message": told, "code": "SIGNATURE_REFUSED"}}
    assert await events_kept(worker_db) == 0


async def test_a_key_is_no_proof(http: httpx.AsyncClient, db: Database) -> None:
    key = await make.key(db)
    headers = {"authorization": f"Bearer {key}"}
    reply = await http.post(await path_of(db), content=bodies.body(paid()), headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "SIGNATURE_REFUSED")


@pytest.mark.parametrize("named", ["", "x", "%00", "00000000-0000-0000-0000-000000000000"])
async def test_an_unknown_endpoint_is_not_found(http: httpx.AsyncClient, named: str) -> None:
    reply = await post(http, f"{PATH}?endpoint={named}", bodies.body(paid()))
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "NOT_FOUND")


async def test_one_merchants_endpoint_proves_nothing_at_anothers(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    """What is signed for the platform does not pass for a merchant, nor the other way round."""
    own = await path_of(db, await make.account(db))
    content = bodies.body(paid())
    assert (await post(http, own, content, secret=PLATFORM_SECRET)).status_code == 400
    assert (await post(http, PATH, content, secret=SECRET)).status_code == 400
    assert await events_kept(worker_db) == 0


async def test_a_secret_that_cannot_be_opened_is_our_trouble_and_stripe_tries_again(
    http: httpx.AsyncClient, db: Database, api: Api
) -> None:
    path = await path_of(db)
    process = api.app.state.process
    api.app.state.process = replace(process, stripe=Receiver(process.db, process.settings))
    reply = await post(http, path, bodies.body(paid()))
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "30")
    assert reply.json()["error"]["code"] == "SECRET_UNREADABLE"
    assert SECRET not in reply.text


async def test_what_is_signed_and_no_event_is_a_bad_request(http: httpx.AsyncClient, db: Database) -> None:
    path = await path_of(db)
    for content in (b"", b"null", b"{", b"[" * 100_000, b"\xff", b'{"id": 1}'):
        reply = await post(http, path, content)
        assert (reply.status_code, reply.json()["error"]["code"]) == (400, "MALFORMED_REQUEST")


async def test_a_body_beyond_the_limit_is_refused_also_once_unpacked(
    http: httpx.AsyncClient, db: Database
) -> None:
    path, large = await path_of(db), b" " * (9 * 1024 * 1024)
    packed = gzip.compress(large)
    header = {"stripe-signature": signed(packed, at=now(), secret=SECRET)}
    replies = [
        await post(http, path, large),
        await http.post(path, content=packed, headers={**header, "content-encoding": "gzip"}),
    ]
    assert [reply.status_code for reply in replies] == [413, 413]


async def test_unknown_types_and_notifications_are_counted_and_never_an_error(
    http: httpx.AsyncClient, db: Database
) -> None:
    path = await path_of(db, await make.account(db))
    made = [event("customer.created", {}), thin(created=now().isoformat()), event("some.thing_new", {})]
    replies = [await post(http, path, bodies.body(one)) for one in made]
    assert [reply.status_code for reply in replies] == [200] * 3
    found = (await http.get("/metrics")).text
    assert 'vitals_stripe_events_total{state="ignored",type="unknown"}' in found
    assert 'vitals_stripe_events_total{state="unresolved",type="v2.core"}' in found
    assert "customer.created" not in found


async def test_no_signed_body_whatever_it_holds_gets_a_5xx(http: httpx.AsyncClient, db: Database) -> None:
    path, chance = await path_of(db, await make.account(db)), random.Random(7)
    replies = await asyncio.gather(*(post(http, path, _mangled(chance)) for _ in range(120)))
    assert {reply.status_code for reply in replies} <= {200, 400}


HOSTILE = (
    None,
    True,
    -1,
    10**400,
    1e308,
    "",
    "\x00",
    "\ud800",
    "x" * 5000,
    [],
    {},
    [[[]]],
    {"": None},
    "é\u2028",
)


def _mangled(chance: random.Random) -> bytes:
    """An event with some values replaced, and at times some bytes."""
    made = paid(type=chance.choice(["charge.succeeded", "charge.failed", "charge.refunded", "payout.paid"]))
    made["data"]["previous_attributes"] = {"amount_refunded": 0}
    for _ in range(chance.randint(1, 3)):
        place = made
        while True:
            name = chance.choice(sorted(place))
            if not isinstance(place[name], dict) or not place[name] or chance.random() < 0.3:
                break
            place = place[name]
        place[name] = copy.deepcopy(chance.choice(HOSTILE))
    content = bytearray(json.dumps(made).encode())
    if chance.random() < 0.3:
        for _ in range(3):
            content[chance.randrange(len(content))] = chance.randrange(256)
    return bytes(content)


async def test_events_and_signatures_in_many_at_once_each_count_once(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    path = await path_of(db, await make.account(db))
    made = [bodies.body(paid()) for _ in range(10)]
    replies = await asyncio.gather(*(post(http, path, one) for one in made * 4))
    assert {reply.status_code for reply in replies} == {200}
    assert sum((await logged(worker_db)).values()) == 10 * 1001


async def test_what_cannot_be_proven_is_refused_before_its_body_is_read(
    http: httpx.AsyncClient, db: Database
) -> None:
    path, large = await path_of(db), b" " * (9 * 1024 * 1024)
    unsigned = [await http.post(path, content=large)]
    unsigned.append(await http.post(path, content=large, headers={"stripe-signature": "t=1,v1=x"}))
    assert [reply.status_code for reply in unsigned] == [400, 400]
    unknown = await post(http, f"{PATH}?endpoint=00000000-0000-0000-0000-000000000000", large)
    assert unknown.status_code == 404


async def test_a_body_is_at_most_a_mebibyte(http: httpx.AsyncClient, db: Database) -> None:
    path = await path_of(db)
    replies = [await post(http, path, b" " * size) for size in (1024 * 1024, 1024 * 1024 + 1)]
    assert [reply.status_code for reply in replies] == [400, 413]


async def test_stripe_waits_for_no_room_that_telemetry_takes(
    http: httpx.AsyncClient, db: Database, api: Api
) -> None:
    path = await path_of(db, await make.account(db))
    admission = api.app.state.process.intake.admission
    with admission.enter(now()) as room:
        room.take(admission.most_bytes)
        assert (await post(http, path, bodies.body(paid()))).status_code == 200
