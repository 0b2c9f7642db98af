"""Telemetry over HTTP: taken whole, acknowledged once durable, refused with the place of what is wrong."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
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
from domain.core.settings import Settings
from domain.telemetry import columns
from domain.telemetry.fold import fold
from domain.telemetry.ingest import Intake
from tests import make
from tests.api.conftest import Api

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
    """The values that lie in the log, in order."""
    async with worker_db.read() as session:
        rows = await session.scalars(text("SELECT columns FROM ingest_log"))
        return sorted(value for row in rows for value in columns.decode(row).value.tolist())


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
    assert await fold(worker_db, datetime.now(UTC)) == 1
    async with worker_db.read() as session:
        assert await session.scalar(text("SELECT count(*) FROM watermarks")) == 0


def columnar(account: Account, series: list[int]) -> dict[str, Any]:
    at = [int(MINUTE.timestamp())] * len(series)
    one = {"account": account.external_id, "series": series, "at": at, "value": series}
    return {"accounts": [one]}


async def test_series_are_registered_and_written_to_as_columns(
    http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    headers, account = await ingest_key(db), await make.account(db)
    named = {"account": account.external_id, "metric": "payments.count"}
    body = {"series": [{**named, "labels": {"issuer": issuer}} for issuer in ("a", "b", "a")]}
    registered = await http.post("/v1/series", json=body, headers=headers)
    assert (registered.status_code, registered.json()) == (200, {"series": [1, 2, 1]})
    taken = await http.post("/v1/points", json=columnar(account, [2, 1]), headers=headers)
    assert (taken.status_code, taken.json()) == (200, {"accepted": 2})
    strange = await http.post("/v1/points", json=columnar(account, [1, 3]), headers=headers)
    problem = strange.json()["error"]["problems"][0]
    assert (strange.status_code, problem["line"], problem["field"]) == (422, 2, "accounts[0].series[1]")
    assert await written(worker_db) == [1, 2]


async def test_series_of_a_strange_account_or_without_a_right_to_write_are_not_registered(
    http: httpx.AsyncClient, db: Database
) -> None:
    account = await make.account(db)
    reading = {"authorization": f"Bearer {await make.key(db, account=account)}"}
    body = {"series": [{"account": "nobody", "metric": "payments.count"}]}
    replies = [
        await http.post("/v1/series", json=body, headers=headers)
        for headers in ({}, reading, await ingest_key(db))
    ]
    assert [reply.status_code for reply in replies] == [401, 403, 422]
    assert replies[-1].json()["error"]["problems"][0]["field"] == "series[0].account"
    malformed = await http.post("/v1/series", content=b"[", headers=await ingest_key(db))
    assert malformed.status_code == 400


@asynccontextmanager
async def with_intake(api: Api, db: Database, settings: Settings) -> AsyncIterator[Intake]:
    """The process with an intake of its own."""
    process = api.app.state.process
    intake = Intake(db, settings, process.metrics)
    intake.start()
    api.app.state.process = replace(process, intake=intake)
    yield intake
    api.app.state.process = process
    await intake.stop()


async def test_what_cannot_be_written_now_is_told_in_the_form_of_its_format(
    api: Api, http: httpx.AsyncClient, db: Database, worker_db: Database, settings: Settings
) -> None:
    headers, account = await ingest_key(db), await make.account(db)
    away = Database("postgresql://vitals_app@127.0.0.1:1/vitals", db.role)
    body = otlp(account.external_id).SerializeToString()
    async with with_intake(api, away, settings):
        plain = await http.post("/v1/points", content=ndjson(line(account)), headers=headers)
        binary = await http.post("/v1/metrics", content=body, headers={**headers, **PROTOBUF})
        as_json = await http.post("/v1/metrics", json={"resourceMetrics": []}, headers=headers)
    await away.dispose()
    assert {(one.status_code, one.headers["retry-after"]) for one in (plain, binary, as_json)} == {(503, "1")}
    assert plain.json()["error"]["code"] == "UNAVAILABLE"
    assert (binary.headers["content-type"], binary.content[:2]) == (PROTOBUF["content-type"], b"\x08\x0e")
    assert as_json.json()["code"] == 14
    again = await http.post("/v1/points", content=ndjson(line(account)), headers=headers)
    assert (again.status_code, await written(worker_db)) == (200, [12])


async def test_an_overload_is_shed_and_what_was_acknowledged_is_there(
    api: Api, http: httpx.AsyncClient, db: Database, worker_db: Database, settings: Settings
) -> None:
    headers, account = await ingest_key(db), await make.account(db)
    assert (await http.post("/v1/points", content=ndjson(line(account)), headers=headers)).status_code == 200
    bodies = {value: ndjson(line(account, value=value), *padding(account)) for value in range(100, 140)}
    most = 3 * len(bodies[100])
    async with with_intake(api, db, settings.model_copy(update={"ingest_waiting": most})) as intake:
        held: list[int] = []

        async def send(value: int) -> httpx.Response:
            reply = await http.post("/v1/points", content=bodies[value], headers=headers)
            held.append(intake.admission.bytes)
            return reply

        replies = dict(zip(bodies, await asyncio.gather(*map(send, bodies)), strict=True))
        assert (intake.admission.bytes, intake.admission.requests) == (0, 0)
    assert max(held) <= most
    shed = [reply for reply in replies.values() if reply.status_code != 200]
    assert {(reply.status_code, reply.headers["retry-after"]) for reply in shed} == {(503, "1")}
    acknowledged = [value for value, reply in replies.items() if reply.status_code == 200]
    assert [value for value in await written(worker_db) if value >= 100] == acknowledged
    for value, reply in replies.items():
        if reply.status_code != 200:
            again = await http.post("/v1/points", content=bodies[value], headers=headers)
            assert again.status_code == 200
    assert [value for value in await written(worker_db) if value >= 100] == list(bodies)


def padding(account: Account) -> list[dict[str, Any]]:
    return [line(account, labels={"issuer": f"bank-{number}"}, value=1) for number in range(50)]


async def until(holds: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while True:
            if holds():
                return
            await asyncio.sleep(0)


async def test_a_sender_that_hangs_up_within_its_body_leaves_nothing_behind(
    api: Api, http: httpx.AsyncClient, db: Database, worker_db: Database
) -> None:
    headers, account = await ingest_key(db), await make.account(db)
    admission = api.app.state.process.intake.admission
    host, port = api.url.removeprefix("http://").split(":")
    _, writer = await asyncio.open_connection(host, int(port))
    head = f"POST /v1/points HTTP/1.1\r\nhost: {host}\r\nauthorization: {headers['authorization']}\r\n"
    writer.write(f"{head}content-length: 1000\r\n\r\n".encode() + ndjson(line(account)))
    await writer.drain()
    await until(lambda: admission.bytes > 0)
    writer.close()
    await until(lambda: admission.requests == 0)
    assert admission.bytes == 0
    assert await written(worker_db) == []


async def test_bodies_of_unknown_length_are_bounded_too(http: httpx.AsyncClient, db: Database) -> None:
    headers, account = await ingest_key(db), await make.account(db)

    async def parts(body: bytes, times: int) -> AsyncIterator[bytes]:
        for _ in range(times):
            yield body

    small = await http.post("/v1/points", content=parts(ndjson(line(account)), 1), headers=headers)
    large = await http.post("/v1/points", content=parts(b" " * 1024 * 1024, 9), headers=headers)
    assert [reply.status_code for reply in (small, large)] == [200, 413]


async def test_what_became_of_points_is_counted_by_format(
    api: Api, http: httpx.AsyncClient, db: Database
) -> None:
    headers, account = await ingest_key(db), await make.account(db)
    counted = api.app.state.process.metrics

    def counts() -> set[str]:
        lines = counted.text().splitlines()
        return {one for one in lines if one.startswith("vitals_ingest_") and "_total" in one}

    before, late = counts(), (MINUTE - timedelta(minutes=10)).isoformat()
    body = ndjson(line(account, at=late), line(account, source="b"))
    for _ in range(2):
        await http.post("/v1/points", content=body, headers=headers)
    await http.post("/v1/points", content=ndjson(line(account, value=-1)), headers=headers)
    body = otlp(account.external_id, "nobody").SerializeToString()
    await http.post("/v1/metrics", content=body, headers={**headers, **PROTOBUF})
    text_of = (await http.get("/metrics")).text
    changed = {one.rpartition(" ")[0] for one in counts() - before}
    assert changed == {
        'vitals_ingest_points_total{format="ndjson"}',
        'vitals_ingest_points_total{format="otlp_protobuf"}',
        'vitals_ingest_refused_total{format="ndjson",reason="value"}',
        'vitals_ingest_refused_total{format="otlp_protobuf",reason="account"}',
        'vitals_ingest_requests_total{format="ndjson",status="taken"}',
        'vitals_ingest_requests_total{format="ndjson",status="repeated"}',
        'vitals_ingest_requests_total{format="ndjson",status="refused"}',
        'vitals_ingest_requests_total{format="otlp_protobuf",status="taken"}',
        "vitals_ingest_late_points_total",
    }
    assert "vitals_ingest_bytes 0" in text_of.splitlines()
    assert 'vitals_http_requests_total{route="/v1/points",status="200"}' in text_of


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
