"""Stripe's thin notifications: fetched from the configured host, patiently, and from nowhere else."""

import asyncio
import json
import threading
from collections import deque
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from sqlalchemy import select

from domain.core.db import Database
from domain.core.settings import Settings
from domain.stripe import resolving
from domain.stripe.endpoints import Endpoint
from domain.stripe.models import State, StripeEvent
from domain.stripe.resolving import Api, resolve_waiting
from tests import make
from tests.domain.test_stripe_events import endpoint, kept, received
from tests.make import NOON
from tests.stripe_bodies import thin
from workers import stripe as tasks

DATA = {"alert_id": "ha_1", "grouping_key": "g", "summary": "More errors than usual.", "impact": {}}


class Stripe(ThreadingHTTPServer):
    """What answers as Stripe's API would; `replies` are given in turn, the last one for good."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.replies: deque[tuple[int, dict[str, str], bytes]] = deque()
        self.asked: list[tuple[str, dict[str, str]]] = []

    @property
    def api(self) -> Api:
        return Api(f"http://127.0.0.1:{self.server_address[1]}", "sk_live_1", "2025-09-30.clover")

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.replies.append((status, headers, content))


class _Handler(BaseHTTPRequestHandler):
    server: Stripe

    def do_GET(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.asked.append((self.path, headers))
        replies = self.server.replies
        status, more, content = replies.popleft() if len(replies) > 1 else replies[0]
        self.send_response(status)
        for name, value in {"content-length": str(len(content)), **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Tests are silent."""


@pytest.fixture
def stripe() -> Iterator[Stripe]:
    server = Stripe()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def whole(notified: dict[str, Any]) -> bytes:
    """The event that the notification is of."""
    return json.dumps(notified | {"data": DATA}).encode()


async def test_a_notification_is_resolved_with_the_operators_key_in_the_events_context(
    db: Database, worker_db: Database, stripe: Stripe
) -> None:
    notified = thin(context="acct_1")
    assert await received(db, await endpoint(db), notified) == [State.UNRESOLVED]
    stripe.answer(200, whole(notified))
    assert await resolve_waiting(worker_db, stripe.api, NOON) == 1
    ((path, headers),) = stripe.asked
    assert path == f"/v2/core/events/{notified['id']}"
    assert headers["authorization"] == "Bearer sk_live_1"
    assert headers["stripe-version"] == "2025-09-30.clover"
    assert headers["stripe-context"] == "acct_1"
    (row,) = await kept(worker_db)
    assert (row.state, row.payload, row.next_attempt_at) == (State.TAKEN, whole(notified), None)
    assert await resolve_waiting(worker_db, stripe.api, NOON + timedelta(days=1)) == 0
    assert len(stripe.asked) == 1


async def test_what_is_no_alert_of_health_is_resolved_and_not_kept(
    db: Database, worker_db: Database, stripe: Stripe
) -> None:
    notified = thin("v2.core.account.closed")
    await received(db, await endpoint(db), notified)
    stripe.answer(200, whole(notified))
    assert await resolve_waiting(worker_db, stripe.api, NOON) == 1
    assert [(row.state, row.payload) for row in await kept(worker_db)] == [(State.IGNORED, None)]


async def test_a_host_that_fails_is_asked_again_later_and_three_times_at_most(
    db: Database, worker_db: Database, stripe: Stripe
) -> None:
    await received(db, await endpoint(db), thin())
    stripe.answer(500)
    at, found = NOON, []
    for back_off in (*resolving.BACK_OFF, timedelta(days=1)):
        await resolve_waiting(worker_db, stripe.api, at)
        await resolve_waiting(worker_db, stripe.api, at + back_off - timedelta(seconds=1))
        (row,) = await kept(worker_db)
        found.append((row.state, row.attempts, row.remark, row.next_attempt_at))
        at += back_off
    told = "Stripe answered 500."
    second, third = NOON + timedelta(minutes=1), NOON + timedelta(minutes=11)
    assert found == [
        (State.UNRESOLVED, 1, told, second),
        (State.UNRESOLVED, 2, told, third),
        (State.FAILED, 3, told, None),
        (State.FAILED, 3, told, None),
    ]
    assert len(stripe.asked) == 3


async def test_a_host_that_recovers_is_believed(db: Database, worker_db: Database, stripe: Stripe) -> None:
    notified = thin()
    await received(db, await endpoint(db), notified)
    stripe.answer(503)
    stripe.answer(200, whole(notified))
    assert await resolve_waiting(worker_db, stripe.api, NOON) == 0
    assert await resolve_waiting(worker_db, stripe.api, NOON + timedelta(minutes=1)) == 1
    assert [row.state for row in await kept(worker_db)] == [State.TAKEN]


@pytest.mark.parametrize(
    ("status", "headers", "content", "told"),
    [
        (302, {"location": "http://127.0.0.1:1/"}, b"", "Stripe answered 302."),
        (200, {}, b"", "Stripe answered with something else: The body is not JSON."),
        (200, {}, b"x" * 300_000, "Stripe answered with more than 262144 bytes."),
        (200, {}, json.dumps(thin()).encode(), "Stripe answered with another event."),
    ],
    ids=["redirect", "empty", "large", "another"],
)
async def test_another_answer_is_no_event(
    db: Database,
    worker_db: Database,
    stripe: Stripe,
    status: int,
    headers: dict[str, str],
    content: bytes,
    told: str,
) -> None:
    await received(db, await endpoint(db), thin())
    stripe.answer(status, content, **headers)
    assert await resolve_waiting(worker_db, stripe.api, NOON) == 0
    assert [(row.state, row.remark) for row in await kept(worker_db)] == [(State.UNRESOLVED, told)]
    assert len(stripe.asked) == 1


async def test_a_host_that_cannot_be_reached_is_asked_again(db: Database, worker_db: Database) -> None:
    await received(db, await endpoint(db), thin())
    nobody = Api("http://127.0.0.1:1", "sk_live_1", "2025-09-30.clover")
    assert await resolve_waiting(worker_db, nobody, NOON) == 0
    (row,) = await kept(worker_db)
    assert (row.state, row.remark) == (State.UNRESOLVED, "Stripe could not be asked: ConnectError.")


async def test_the_operators_key_is_not_used_for_what_a_merchants_endpoint_names(
    db: Database, worker_db: Database, stripe: Stripe
) -> None:
    await received(db, await endpoint(db, await make.account(db)), thin())
    stripe.answer(200)
    assert await resolve_waiting(worker_db, stripe.api, NOON) == 0
    assert stripe.asked == []
    assert [row.state for row in await kept(worker_db)] == [State.UNRESOLVED]


async def test_two_workers_fetch_each_event_once(db: Database, worker_db: Database, stripe: Stripe) -> None:
    notified = [thin() for _ in range(5)]
    platform = await endpoint(db)
    await received(db, platform, *notified)
    for one in notified:
        stripe.answer(200, whole(one))
    stripe.answer(404)
    await asyncio.gather(*(resolve_waiting(worker_db, stripe.api, NOON) for _ in range(2)))
    assert len(stripe.asked) == len({path for path, _ in stripe.asked}) == 5


async def test_what_a_crash_left_is_fetched_again_and_at_last_given_up(
    db: Database, worker_db: Database, stripe: Stripe
) -> None:
    await _left_after(db, worker_db, await endpoint(db), attempts=resolving.TRIES)
    stripe.answer(200)
    assert await resolve_waiting(worker_db, stripe.api, NOON) == 0
    assert stripe.asked == []
    (row,) = await kept(worker_db)
    assert (row.state, row.remark) == (State.FAILED, "It was never fetched to the end.")


async def _left_after(db: Database, worker_db: Database, to: Endpoint, *, attempts: int) -> None:
    """An event whose fetchers all crashed."""
    await received(db, to, thin())
    async with worker_db.transaction() as session:
        (await session.scalars(select(StripeEvent))).one().attempts = attempts


async def test_without_a_key_nothing_is_fetched_and_with_one_what_waited_is(
    db: Database,
    worker_db: Database,
    stripe: Stripe,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    notified = thin()
    await received(db, await endpoint(db), notified)
    stripe.answer(200, whole(notified))
    resolve: Any = tasks.resolve.run.__wrapped__
    at: datetime = NOON
    assert await resolve(worker_db, at) == 0
    monkeypatch.setenv("VITALS_STRIPE_API_KEY", stripe.api.key)
    monkeypatch.setenv("VITALS_STRIPE_HOST", stripe.api.host + "/")
    assert await resolve(worker_db, at) == 1
    assert [path for path, _ in stripe.asked] == [f"/v2/core/events/{notified['id']}"]


async def test_the_wait_for_a_silent_host_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """The time limit is on the whole answer, however it trickles."""

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n")
        while not writer.is_closing():
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.01)

    monkeypatch.setattr(resolving, "_ATTEMPT_S", 0.2)
    server = await asyncio.start_server(trickle, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    api = Api(f"http://127.0.0.1:{port}", "sk_live_1", "2025-09-30.clover")
    async with resolving.httpx.AsyncClient() as client:
        with pytest.raises(resolving.NotFetched, match="did not answer within"):
            await resolving.fetch(client, api, "evt_1", context=None)
    server.close()
