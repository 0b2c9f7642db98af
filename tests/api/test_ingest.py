"""Telemetry over HTTP: taken whole, acknowledged once durable, refused with the place of what is wrong."""

import gzip
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import AGGREGATION_TEMPORALITY_DELTA
from sqlalchemy import text

from domain.access.models import PrincipalKind
from domain.catalog.models import Account
from domain.core.db import Database
from domain.telemetry.fold import fold
from tests import make

PROTOBUF = {"content-type": "application/x-protobuf"}
MINUTE = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=5)


def line(account: Account, /, **fields: Any) -> dict[str, Any]:
    return {
        "account": account.external_id,
        "metric": "payments.count",
        "at": MINUTE.isoformat(),
        "value": 12,
        "labels": {"outcome": "approved"},
        **fields,
    }


def ndjson(*lines: dict[str, Any]) -> bytes:
    return "\n".join(json.dumps(one) for one in lines).encode()


async def ingest_key(db: Database) -> dict[str, str]:
    return {"authorization": f"Bearer {await make.key(db, kind=PrincipalKind.INGEST)}"}


async def written(worker_db: Database) -> list[float]:
    """What was logged or folded, once folded."""
    await fold(worker_db, datetime.now(UTC))
    async with worker_db.read() as session:
        return list(await session.scalars(text("SELECT value FROM minutes ORDER BY value")))


async def test_points_are_taken_and_a_repetition_is_answered_alike_without_effect(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    headers, account = await ingest_key(db), await make.account(db)
    body = ndjson(line(account), line(account, labels={"outcome": "declined"}, value=3))
    replies = [await http.post("/v1/points", content=body, headers=headers) for _ in range(2)]
    assert [(reply.status_code, reply.json()) for reply in replies] == [(200, {"accepted": 2})] * 2
    assert replies[0].headers["x-request-id"]
    assert await written(worker_db) == [3, 12]


async def test_one_bad_line_is_named_and_nothing_is_written(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    headers, account = await ingest_key(db), await make.account(db)
    body = ndjson(line(account), line(account, metric="authorization_rate", value=0.9))
    reply = await http.post("/v1/points", content=body, headers=headers)
    assert reply.status_code == 422
    error = reply.json()["error"]
    assert (error["code"], error["total"]) == ("POINTS_REJECTED", 1)
    assert (error["problems"][0]["line"], error["problems"][0]["field"]) == (2, "metric")
    assert await written(worker_db) == []


async def test_an_unknown_account_is_named_by_its_line(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    headers, account = await ingest_key(db), await make.account(db)
    body = ndjson(line(account), line(account, account="nobody"))
    reply = await http.post("/v1/points", content=body, headers=headers)
    problem = reply.json()["error"]["problems"][0]
    assert (reply.status_code, problem["line"], problem["field"]) == (422, 2, "account")
    assert await written(worker_db) == []


async def test_a_merchant_writes_to_its_own_account_and_to_no_other(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    own, other = await make.account(db), await make.account(db)
    key = await make.key(db, account=own, scopes=["telemetry:write"])
    headers = {"authorization": f"Bearer {key}"}
    mine = await http.post("/v1/points", content=ndjson(line(own)), headers=headers)
    theirs = await http.post("/v1/points", content=ndjson(line(other)), headers=headers)
    assert (mine.status_code, theirs.status_code) == (200, 422)
    assert await written(worker_db) == [12]


async def test_a_key_of_idempotency_with_another_body_is_a_conflict(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    headers = {**await ingest_key(db), "idempotency-key": "batch-7"}
    first = await http.post("/v1/points", content=ndjson(line(account)), headers=headers)
    second = await http.post("/v1/points", content=ndjson(line(account, value=99)), headers=headers)
    assert (first.status_code, second.status_code) == (200, 409)
    assert await written(worker_db) == [12]


async def test_gzip_is_unpacked_and_what_is_no_gzip_or_too_large_is_refused(
    http: httpx.AsyncClient, db: Database
) -> None:
    account = await make.account(db)
    headers = {**await ingest_key(db), "content-encoding": "gzip"}
    packed = gzip.compress(ndjson(line(account)))
    bomb = gzip.compress(b" " * (9 * 1024 * 1024))
    bodies = [packed, b"not gzip", packed[:-4], packed + b"more", bomb]
    replies = [await http.post("/v1/points", content=body, headers=headers) for body in bodies]
    assert [reply.status_code for reply in replies] == [200, 400, 400, 400, 413]


@pytest.mark.parametrize("path", ["/v1/points", "/v1/metrics"])
async def test_who_may_not_write_is_refused(http: httpx.AsyncClient, db: Database, path: str) -> None:
    reading = await make.key(db, account=await make.account(db))
    for authorization, status in (("", 401), ("Bearer nonsense", 401), (f"Bearer {reading}", 403)):
        headers = {**PROTOBUF, "authorization": authorization}
        reply = await http.post(path, content=b"", headers=headers)
        assert reply.status_code == status


def otlp(*accounts: str) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    for account in accounts:
        resource = request.resource_metrics.add()
        attribute = resource.resource.attributes.add(key="vitals.account")
        attribute.value.string_value = account
        metric = resource.scope_metrics.add().metrics.add(name="payments.count")
        metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
        metric.sum.is_monotonic = True
        point = metric.sum.data_points.add(as_int=7, time_unix_nano=int(MINUTE.timestamp() * 1e9))
        point.attributes.add(key="outcome").value.string_value = "approved"
    return request


async def test_good_otlp_points_are_taken_and_bad_ones_are_counted(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    body = otlp(account.external_id, "nobody").SerializeToString()
    reply = await http.post("/v1/metrics", content=body, headers={**await ingest_key(db), **PROTOBUF})
    assert (reply.status_code, reply.headers["content-type"]) == (200, PROTOBUF["content-type"])
    told = ExportMetricsServiceResponse.FromString(reply.content).partial_success
    assert told.rejected_data_points == 1
    assert "account" in told.error_message
    assert await written(worker_db) == [7]


async def test_otlp_in_json_is_answered_in_json(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    account = await make.account(db)
    point = {
        "asInt": "7",
        "timeUnixNano": str(int(MINUTE.timestamp() * 1e9)),
        "attributes": [{"key": "outcome", "value": {"stringValue": "approved"}}],
    }
    total = {"aggregationTemporality": 1, "isMonotonic": True, "dataPoints": [point]}
    placed = {"attributes": [{"key": "vitals.account", "value": {"stringValue": account.external_id}}]}
    metrics = [{"metrics": [{"name": "payments.count", "sum": total}]}]
    body = {"resourceMetrics": [{"resource": placed, "scopeMetrics": metrics}]}
    reply = await http.post("/v1/metrics", json=body, headers=await ingest_key(db))
    assert (reply.status_code, reply.json()) == (200, {})
    assert await written(worker_db) == [7]


async def test_a_body_that_is_no_otlp_request_is_a_status_in_its_own_encoding(
    http: httpx.AsyncClient, db: Database
) -> None:
    headers = await ingest_key(db)
    binary = await http.post("/v1/metrics", content=b"\xff\xff", headers={**headers, **PROTOBUF})
    as_json = await http.post("/v1/metrics", json=[], headers=headers)
    plain = await http.post("/v1/metrics", content=b"x", headers={**headers, "content-type": "text/plain"})
    assert [reply.status_code for reply in (binary, as_json, plain)] == [400, 400, 415]
    assert binary.headers["content-type"] == PROTOBUF["content-type"]
    assert as_json.json()["code"] == 3


async def test_backfilled_points_are_history_and_close_no_minute(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    headers, account = await ingest_key(db), await make.account(db)
    reply = await http.post("/v1/points?backfill=true", content=ndjson(line(account)), headers=headers)
    assert reply.status_code == 200
    assert await written(worker_db) == [12]
    async with worker_db.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM watermarks")) == 0


async def test_a_status_page_is_taken_once_and_only_whole(http: httpx.AsyncClient, db: Database) -> None:
    headers, partner = await ingest_key(db), await make.partner(db)
    summary = {
        "page": {"id": "p", "name": "Acme"},
        "components": [{"id": "c", "name": "API", "status": "operational"}],
        "incidents": [],
        "scheduled_maintenances": [],
    }
    path = f"/v1/partners/{partner.code}/statuspage?observed_at=2026-11-20T10:00:00Z"
    replies = [await http.post(path, json=summary, headers=headers) for _ in range(2)]
    assert [(reply.status_code, reply.json()) for reply in replies] == [
        (202, {"isNew": True}),
        (202, {"isNew": False}),
    ]
    empty = await http.post(path, json={}, headers=headers)
    unknown = await http.post("/v1/partners/nobody/statuspage", json=summary, headers=headers)
    future = await http.post(path.replace("2026", "2999"), json=summary, headers=headers)
    assert [reply.status_code for reply in (empty, unknown, future)] == [422, 404, 422]
