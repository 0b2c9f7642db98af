"""Spans over HTTP: the good ones are kept, the others counted, and a repetition has no effect."""

import gzip
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from sqlalchemy import text

from domain.access.models import PrincipalKind
from domain.core.db import Database
from domain.core.settings import Settings
from domain.telemetry import columns
from tests import make
from tests.api.conftest import Api
from tests.api.test_ingest import with_intake

PROTOBUF = {"content-type": "application/x-protobuf"}
ENDED = int((datetime.now(UTC) - timedelta(minutes=5)).timestamp()) // 60 * 60 * 10**9


def request(*accounts: str, spans: int = 1) -> ExportTraceServiceRequest:
    """Of each account so many spans of 25 ms."""
    made = ExportTraceServiceRequest()
    for account in accounts:
        of_resource = made.resource_spans.add()
        of_resource.resource.attributes.add(key="vitals.account").value.string_value = account
        of_scope = of_resource.scope_spans.add()
        for _ in range(spans):
            start = ENDED - 25_000_000
            kind = Span.SPAN_KIND_SERVER
            span = of_scope.spans.add(
                name="pay", kind=kind, start_time_unix_nano=start, end_time_unix_nano=ENDED
            )
            span.attributes.add(key="http.route").value.string_value = "/v1/payments"
    return made


async def key(db: Database) -> dict[str, str]:
    return {"authorization": f"Bearer {await make.key(db, kind=PrincipalKind.INGEST)}"}


async def written(worker_db: Database) -> list[tuple[float, int]]:
    """Value and count of each row that lies in the log."""
    async with worker_db.read() as session:
        rows = [columns.decode(row) for row in await session.scalars(text("SELECT columns FROM ingest_log"))]
    return sorted(pair for row in rows for pair in zip(row.value.tolist(), row.count.tolist(), strict=True))


async def test_spans_are_taken_and_a_repetition_is_answered_alike_without_effect(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    headers = {**await key(db), **PROTOBUF, "content-encoding": "gzip"}
    body = gzip.compress(request(account.external_id, spans=3).SerializeToString())
    for _ in range(2):
        reply = await http.post("/v1/traces", content=body, headers=headers)
        assert (reply.status_code, reply.content) == (200, b"")
        assert reply.headers["content-type"] == PROTOBUF["content-type"]
    assert await written(worker_db) == [(3, 0), (75, 3)]


async def test_spans_of_strange_accounts_are_counted_once_each(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    body = request(account.external_id, "nobody", "", spans=4).SerializeToString()
    reply = await http.post("/v1/traces", content=body, headers={**await key(db), **PROTOBUF})
    told = ExportTraceServiceResponse.FromString(reply.content).partial_success
    assert (reply.status_code, told.rejected_spans) == (200, 8)
    assert "span 9: pay account is missing" in told.error_message
    assert "span 5: api.requests account is no account that this key can write to" in told.error_message
    assert await written(worker_db) == [(4, 0), (100, 4)]


async def test_a_span_that_is_counted_without_its_latency_is_not_rejected(
    api: Api, http: httpx.AsyncClient, db: Database, worker_db: Database, settings: Settings
) -> None:
    account = await make.account(db)
    body = request(account.external_id, spans=2).SerializeToString()
    async with with_intake(api, db, settings.model_copy(update={"most_series": 1})):
        reply = await http.post("/v1/traces", content=body, headers={**await key(db), **PROTOBUF})
    told = ExportTraceServiceResponse.FromString(reply.content).partial_success
    assert (told.rejected_spans, told.error_message.split(" is ")[0]) == (0, "span 1: api.latency metric")
    assert await written(worker_db) == [(2, 0)]


async def test_json_is_answered_in_json(http: httpx.AsyncClient, db: Database, worker_db: Database) -> None:
    account, headers = await make.account(db), await key(db)
    good, bad = (MessageToDict(request(name)) for name in (account.external_id, "nobody"))
    taken = await http.post("/v1/traces", json=good, headers=headers)
    partial = await http.post("/v1/traces", json=bad, headers=headers)
    assert (taken.status_code, taken.json()) == (200, {})
    assert partial.json()["partialSuccess"]["rejectedSpans"] == "1"
    assert await written(worker_db) == [(1, 0), (25, 1)]


async def test_a_merchant_writes_spans_of_its_own_account_and_of_no_other(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    own, other = await make.account(db), await make.account(db)
    secret = await make.key(db, account=own, scopes=["telemetry:write"])
    body = request(own.external_id, other.external_id).SerializeToString()
    headers = {"authorization": f"Bearer {secret}", **PROTOBUF}
    reply = await http.post("/v1/traces", content=body, headers=headers)
    assert ExportTraceServiceResponse.FromString(reply.content).partial_success.rejected_spans == 1
    assert await written(worker_db) == [(1, 0), (25, 1)]


async def test_spans_that_were_sent_as_metrics_by_mistake_are_not_lost_in_silence(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    account, headers = await make.account(db), await key(db)
    body = MessageToDict(request(account.external_id))
    mistaken = await http.post("/v1/metrics", json=body, headers=headers)
    repeated = await http.post("/v1/traces", json=body, headers=headers)
    assert (mistaken.status_code, repeated.status_code) == (200, 200)
    assert await written(worker_db) == [(1, 0), (25, 1)]


@pytest.mark.parametrize(
    ("content_type", "body", "status"),
    [
        ("application/x-protobuf", b"\xff\xff", 400),
        ("application/json", b"[]", 400),
        ("text/plain", b"x", 415),
    ],
)
async def test_what_is_no_request_is_refused(
    http: httpx.AsyncClient, db: Database, content_type: str, body: bytes, status: int
) -> None:
    headers = {**await key(db), "content-type": content_type}
    assert (await http.post("/v1/traces", content=body, headers=headers)).status_code == status


async def test_who_may_not_write_is_refused(http: httpx.AsyncClient, db: Database) -> None:
    reading = await make.key(db, account=await make.account(db))
    for authorization, status in (("", 401), (f"Bearer {reading}", 403)):
        headers = {**PROTOBUF, "authorization": authorization}
        assert (await http.post("/v1/traces", content=b"", headers=headers)).status_code == status
