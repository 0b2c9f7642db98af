"""OTLP trace requests: SERVER spans become requests and latencies, and refusals name the span."""

import json
import math
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from domain.telemetry import sketches, spans
from domain.telemetry.decoded import Decoded
from domain.telemetry.points import MalformedRequest, Mode, Problem
from domain.telemetry.slots import Slots

NOW = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
OLDEST = NOW - timedelta(days=30)
MINUTE = 1_795_428_060  # 2026-11-23T10:01:00Z
INTERNAL, SERVER, CLIENT, PRODUCER, CONSUMER = range(1, 6)
ERROR = {"code": 2}
NO_ACCOUNT = "account is missing: a span, its scope or resource needs vitals.account (text)"

Attributes = dict[str, Any]
Row = tuple[str, dict[str, str], str, int, float, int]


def attributes(values: Attributes) -> list[dict[str, Any]]:
    """Attributes; a dict is a value as OTLP writes it."""
    return [
        {"key": key, "value": value if isinstance(value, dict) else {"stringValue": value}}
        for key, value in values.items()
    ]


def span(
    name: str = "POST /v1/payments",
    *,
    second: float = 0,
    ms: float = 100,
    with_: Attributes | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """A SERVER span that ends `second` seconds after the minute began, and took `ms`."""
    end = MINUTE * 10**9 + round(second * 10**9)
    times = {"startTimeUnixNano": str(end - round(ms * 10**6)), "endTimeUnixNano": str(end)}
    return {"name": name, "kind": SERVER, "attributes": attributes(with_ or {})} | times | fields


def of_resource(*sent: dict[str, Any], scope: Attributes | None = None, **places: str) -> dict[str, Any]:
    placed = {"vitals.account": "m-1", "service.instance.id": "pod-1"}
    placed |= {key.replace("__", "."): text for key, text in places.items()}
    return {
        "resource": {"attributes": attributes({key: text for key, text in placed.items() if text})},
        "scopeSpans": [{"scope": {"attributes": attributes(scope or {})}, "spans": list(sent)}],
    }


def request(*sent: dict[str, Any], **places: Any) -> dict[str, Any]:
    return {"resourceSpans": [of_resource(*sent, **places)]}


def by_protobuf(content: dict[str, Any], slots: Slots) -> Decoded:
    body = ParseDict(content, ExportTraceServiceRequest()).SerializeToString()
    return spans.Decoder(slots).protobuf(body, at=NOW, oldest=OLDEST)


def by_json(content: dict[str, Any], slots: Slots) -> Decoded:
    return spans.Decoder(slots).json(json.dumps(content).encode(), at=NOW, oldest=OLDEST)


Decode = Callable[[dict[str, Any], Slots], Decoded]


@pytest.fixture(params=[by_protobuf, by_json])
def decode(request: pytest.FixtureRequest) -> Decode:
    door: Decode = request.param
    return door


def rows(decoded: Decoded, slots: Slots) -> list[Row]:
    """Metric, labels, source, minute, value and count of each row; the account is m-1."""
    found = []
    for row in range(len(decoded)):
        identity = slots.identities[decoded.slot[row]]
        assert (identity.account, decoded.mode[row]) == ("m-1", Mode.ADD)
        source, value = decoded.sources[decoded.source[row]], float(decoded.value[row])
        told = identity.metric, dict(identity.labels), source
        found.append((*told, int(decoded.at[row]), value, int(decoded.count[row])))
    return found


def read(decode: Decode, content: dict[str, Any]) -> list[Row]:
    slots = Slots()
    decoded = decode(content, slots)
    assert decoded.problems == []
    return rows(decoded, slots)


def labels_of(decode: Decode, sent: dict[str, Any]) -> dict[str, str]:
    """Those of the requests; the latency has the same but for the status."""
    (_, labels, *_), (_, without_status, *_) = read(decode, request(sent))
    assert {key: text for key, text in labels.items() if key != "status"} == without_status
    return labels


def problems(decode: Decode, *sent: dict[str, Any], **places: str) -> list[Problem]:
    decoded = decode(request(*sent, **places), Slots())
    assert len(decoded) == 0
    return decoded.problems


def http(route: str | None = None, method: str = "POST", status: int = 200) -> Attributes:
    route_of = {} if route is None else {"http.route": route}
    return {
        "http.request.method": method,
        "http.response.status_code": {"intValue": str(status)},
        **route_of,
    }


def test_server_spans_are_added_up_to_a_row_a_series_source_and_minute(decode: Decode) -> None:
    pay = http("/v1/payments")
    sent = request(
        span(with_=pay, second=1, ms=100),
        span(with_=pay, second=59.9, ms=300),
        span(with_=http("/v1/payments", status=502), second=2, ms=50),
        span(with_=pay, second=60, ms=20),
    )
    path = {"path": "/v1/payments", "method": "POST"}
    good, bad = path | {"status": "200"}, path | {"status": "502"}
    assert read(decode, sent) == [
        ("api.requests", good, "pod-1", MINUTE, 2, 0),
        ("api.latency", path, "pod-1", MINUTE, 450, 3),
        ("api.requests", bad, "pod-1", MINUTE, 1, 0),
        ("api.requests", good, "pod-1", MINUTE + 60, 1, 0),
        ("api.latency", path, "pod-1", MINUTE + 60, 20, 1),
    ]


def test_the_latencies_of_a_row_are_one_sketch(decode: Decode) -> None:
    decoded = decode(request(*(span(with_=http("/"), ms=ms) for ms in (0, 10, 10, 4000))), Slots())
    assert sketches.counts(decoded.sketches).tolist() == [0, 4]
    [none, found] = sketches.quantiles(decoded.sketches, [0.25, 0.5, 1]).tolist()
    assert all(math.isnan(value) for value in none)
    assert found == pytest.approx([0, 10, 4000], rel=0.022)


def test_only_spans_that_serve_are_requests(decode: Decode) -> None:
    kinds = (INTERNAL, CLIENT, PRODUCER, CONSUMER, 0)
    others = [span(with_=http("/"), kind=kind) for kind in kinds]
    assert len(read(decode, request(*others, span(with_=http("/"))))) == 2
    unplaced = decode(request(*others, vitals__account=""), Slots())
    assert (len(unplaced), unplaced.problems) == (0, [])


def test_enumerations_may_be_named_in_json() -> None:
    sent = span(with_={"http.route": "/"}, kind="SPAN_KIND_SERVER", status={"code": "STATUS_CODE_ERROR"})
    assert labels_of(by_json, sent) == {"path": "/", "status": "error"}


@pytest.mark.parametrize(
    ("told", "path"),
    [
        ({"http.route": "/v1/payments/{id}"}, "/v1/payments/{id}"),
        ({"http.route": "/a", "rpc.method": "b", "url.template": "/c"}, "/a"),
        ({"rpc.service": "shop.Payments", "rpc.method": "Create"}, "shop.Payments/Create"),
        ({"rpc.service": "shop.Payments", "rpc.method": "shop.Payments/Create"}, "shop.Payments/Create"),
        ({"rpc.method": "Create", "url.template": "/c"}, "Create"),
        ({"rpc.service": "shop.Payments"}, "shop.Payments"),
        ({"url.template": "/c/{id}"}, "/c/{id}"),
        ({"url.path": "/v1/payments/17", "url.full": "https://shop.example/v1/payments/17"}, ""),
    ],
)
def test_the_path_is_a_route_a_procedure_or_a_template_and_never_a_url(
    decode: Decode, told: Attributes, path: str
) -> None:
    assert labels_of(decode, span("POST", with_=told)).get("path", "") == path


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("POST /v1/payments", "/v1/payments"),
        ("GET /v2beta1/payments/{id}/items/:item", "/v2beta1/payments/{id}/items/:item"),
        ("GET /users/<int:id2>/[slug]/*", "/users/<int:id2>/[slug]/*"),
        ("HTTP GET", ""),
        ("GET", ""),
        ("createPayment", "createPayment"),
        ("GETAWAY", "GETAWAY"),
        ("shop.v1.Payments/Create", "shop.v1.Payments/Create"),
        ("GET /payments/17", ""),
        ("GET /payments/8f14e45f-ceea-467f-a9d9-1f2a3b4c5d6e", ""),
        ("GET /payments/pay_Zk3", ""),
        ("GET /payments/v17x", ""),
        ("GET /payments?from=monday", ""),
        ("GET /customers/a@shop.example", ""),
        ("GET https://shop.example/payments", ""),
        ("GET /caf\N{LATIN SMALL LETTER E WITH ACUTE}", ""),
        ("GET /" + "a" * 200, ""),
        ("", ""),
    ],
)
def test_without_a_route_the_name_is_the_path_if_no_id_can_be_in_it(
    decode: Decode, name: str, path: str
) -> None:
    assert labels_of(decode, span(name)).get("path", "") == path


def test_what_was_not_found_has_a_path_only_from_a_template(decode: Decode) -> None:
    absent = http(status=404)
    assert "path" not in labels_of(decode, span("GET /admin.php", with_=absent))
    assert labels_of(decode, span("GET /payments/{id}", with_=absent))["path"] == "/payments/{id}"
    assert labels_of(decode, span("GET", with_=http("/payments", status=404)))["path"] == "/payments"


@pytest.mark.parametrize(
    ("told", "method"),
    [
        ({"http.request.method": "GET"}, "GET"),
        ({"http.method": "patch"}, "PATCH"),
        ({"http.request.method": "_OTHER"}, "_OTHER"),
        ({"http.method": "XYZZY"}, "_OTHER"),
        ({}, ""),
    ],
)
def test_methods_are_those_of_http(decode: Decode, told: Attributes, method: str) -> None:
    assert labels_of(decode, span("serve", with_=told)).get("method", "") == method


@pytest.mark.parametrize(
    ("told", "status", "label"),
    [
        ({"http.response.status_code": {"intValue": "503"}}, {}, "503"),
        ({"http.status_code": {"intValue": "404"}}, ERROR, "404"),
        ({"http.status_code": "200"}, {}, "200"),
        ({"http.status_code": {"intValue": "0"}}, ERROR, "error"),
        ({"http.status_code": {"intValue": "2000"}}, {}, "ok"),
        ({}, ERROR, "error"),
        ({}, {"code": 1}, "ok"),
    ],
)
def test_the_status_is_the_code_or_else_whether_the_span_failed(
    decode: Decode, told: Attributes, status: dict[str, int], label: str
) -> None:
    assert labels_of(decode, span("serve", with_=told, status=status))["status"] == label


def test_a_span_is_placed_by_itself_before_its_scope_and_that_before_its_resource(decode: Decode) -> None:
    own = {"vitals.account": "m-3", "vitals.partner": "acme"}
    sent = of_resource(
        span("a", with_=own),
        span("a"),
        scope={"vitals.account": "m-2", "vitals.service": "checkout"},
        vitals__service="gateway",
        service__instance__id="",
        service__name="edge",
        host__name="h-1",
    )
    slots = Slots()
    decoded = decode({"resourceSpans": [sent]}, slots)
    [first, _, second, _] = [slots.identities[slot] for slot in decoded.slot]
    assert decoded.sources == ("edge/h-1",)
    assert (first.account, dict(first.labels)["partner"], dict(first.labels)["service"]) == (
        ("m-3", "acme", "checkout")
    )
    assert (second.account, dict(second.labels)) == (
        "m-2",
        {"path": "a", "service": "checkout", "status": "ok"},
    )


def test_bad_spans_are_refused_singly_and_the_others_are_kept(decode: Decode) -> None:
    slots = Slots()
    late = (NOW + timedelta(minutes=6)).timestamp() - MINUTE
    sent = request(
        span("fine"),
        span("none", startTimeUnixNano="0"),
        span("none", endTimeUnixNano="0"),
        span("back", ms=-1),
        span("late", second=late),
        span("old", ms=31 * 86_400_000),
        span("client", kind=CLIENT, ms=-1),
        span("typo", with_={"vitals.shop": "m-1"}),
        span("list", with_={"vitals.service": {"arrayValue": {"values": []}}}),
        span("", with_={"http.route": "/" + "a" * 200}),
        span("nul", with_={"http.route": "/\x00"}),
    )
    decoded = decode(sent, slots)
    known = "known are vitals.account, vitals.service, vitals.partner"
    assert decoded.problems == [
        Problem(2, "none", "start is missing"),
        Problem(3, "none", "end is missing"),
        Problem(4, "back", "end is before its start"),
        Problem(5, "late", "end is more than 5 minutes in the future"),
        Problem(6, "old", "start is older than points may be"),
        Problem(8, "typo", f"has the unknown attribute vitals.shop; {known}"),
        Problem(9, "list", "labels.service must be text, a boolean or a number"),
        Problem(10, "a span without a name", "labels.path must have at most 200 characters"),
        Problem(11, "nul", "labels.path must not hold control characters"),
    ]
    assert decoded.number.tolist() == [1, 1]
    assert [row[4] for row in rows(decoded, slots)] == [1, 100]


def test_spans_without_an_account_or_with_an_impossible_source_are_refused(decode: Decode) -> None:
    assert problems(decode, span("a"), vitals__account="") == [Problem(1, "a", NO_ACCOUNT)]
    told = problems(decode, span("a"), service__instance__id="x" * 201)
    assert told == [Problem(1, "a", "source must have at most 200 characters")]


def test_a_span_may_end_up_to_five_minutes_ahead(decode: Decode) -> None:
    ahead = (NOW + timedelta(minutes=5)).timestamp() - MINUTE
    assert {row[3] for row in read(decode, request(span(second=ahead)))} == {MINUTE + ahead}


def test_requests_with_nothing_in_them_are_empty() -> None:
    contents: list[dict[str, Any]] = [{}, {"resourceSpans": []}, {"resourceSpans": [{"scopeSpans": [{}]}]}]
    for content in contents:
        assert read(by_protobuf, content) == read(by_json, content) == []
    bare: dict[str, Any] = {"resourceSpans": None}
    assert read(by_json, bare) == []


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"[]", "The body is not an OTLP trace request in JSON: Expected `object`, got `array`."),
        (b"{", "The body is not an OTLP trace request in JSON: Input data was truncated."),
        (b"\xff", "The body is not UTF-8."),
        (b'{"resourceSpans":[{"resource":{"attributes":[{"value":' + b'{"arrayValue":{"values":[' * 9999,
         "The body is nested too deeply."),
    ],
)  # fmt: skip
def test_bodies_that_are_no_json_request_are_refused(body: bytes, message: str) -> None:
    with pytest.raises(MalformedRequest) as refused:
        spans.Decoder(Slots()).json(body, at=NOW, oldest=OLDEST)
    assert str(refused.value) == message


@pytest.mark.parametrize("body", [b"\xff\xff", b"\x0a", b"\x0a\x05\x12", b"\x0a\x02\x12\x01"])
def test_bodies_that_are_no_binary_request_are_refused(body: bytes) -> None:
    with pytest.raises(MalformedRequest, match="not an OTLP trace request in protobuf"):
        spans.Decoder(Slots()).protobuf(body, at=NOW, oldest=OLDEST)


def within(field: int, content: bytes) -> bytes:
    """A message in a field of another."""
    size, length = len(content), b""
    while size > 127:
        length, size = length + bytes([size & 127 | 128]), size >> 7
    return bytes([field << 3 | 2]) + length + bytes([size]) + content


SERVED = b"\x30\x02"


@pytest.mark.parametrize(
    "body",
    [
        b"\x0a\x00" * 1_000_001,
        within(1, within(1, b"\x0a\x00" * 1_000_001)),
        within(1, within(2, b"\x12\x00" * 100_001)),
        within(1, within(2, within(2, SERVED) * 100_001)),
        within(1, within(2, within(2, SERVED + b"\x4a\x00" * 500_001))),
        within(1, within(2, within(2, b"\x5a\x00" * 1_000_001))),
        within(1, within(2, within(2, within(11, b"\x1a\x00" * 1_000_001)))),
    ],
    ids=["resources", "of a resource", "spans", "served spans", "of a span", "events", "of an event"],
)
def test_bodies_of_many_small_parts_fill_no_memory(body: bytes) -> None:
    with pytest.raises(MalformedRequest, match="too many spans and attributes"):
        spans.Decoder(Slots()).protobuf(body, at=NOW, oldest=OLDEST)


def test_warming_up_changes_nothing() -> None:
    decoder = spans.Decoder(slots := Slots())
    decoder.warm_up()
    assert len(slots) == len(decoder.protobuf(b"", at=NOW, oldest=OLDEST)) == 0


def test_many_small_parts_of_json_are_refused() -> None:
    body = b'{"resourceSpans":[{"scopeSpans":[{"spans":[' + b"{}," * 100_000 + b"{}]}]}]}"
    with pytest.raises(MalformedRequest, match="too many spans and attributes"):
        spans.Decoder(Slots()).json(body, at=NOW, oldest=OLDEST)


def test_as_many_spans_as_a_body_can_hold_are_taken() -> None:
    one = ExportTraceServiceRequest()
    ParseDict(request(span(with_=http("/v1/payments"))), one)
    sent = one.resource_spans[0].scope_spans[0].spans
    sent.extend([sent[0]] * 30_000)
    slots = Slots()
    decoded = spans.Decoder(slots).protobuf(one.SerializeToString(), at=NOW, oldest=OLDEST)
    assert [row[4:] for row in rows(decoded, slots)] == [(30_001, 0), (3_000_100, 30_001)]


SENT = st.builds(
    span,
    st.sampled_from(["POST /a", "GET /b/{id}", "GET /b/17"]),
    second=st.integers(0, 119),
    ms=st.integers(0, 50_000),
    with_=st.sampled_from([{}, http("/a"), http("/a", status=500), {"vitals.partner": "acme"}]),
    kind=st.sampled_from([SERVER, CLIENT]),
    status=st.sampled_from([{}, ERROR]),
)


@given(st.lists(SENT, max_size=12), st.integers(0, 12))
def test_rows_are_the_same_by_json_and_protobuf_and_add_up_over_parts(
    sent: list[dict[str, Any]], cut: int
) -> None:
    whole = read(by_protobuf, request(*sent))
    assert read(by_json, request(*sent)) == whole
    added: dict[Any, np.ndarray[Any, Any]] = {}
    for part in (sent[:cut], sent[cut:]):
        for metric, labels, source, at, *sums in read(by_protobuf, request(*part)):
            key = metric, tuple(labels.items()), source, at
            added[key] = added.get(key, 0) + np.array(sums)
    assert {
        (metric, tuple(labels.items()), source, at): sums for metric, labels, source, at, *sums in whole
    } == {key: sums.tolist() for key, sums in added.items()}


def test_a_reply_is_empty_or_counts_the_spans_and_tells_of_the_first() -> None:
    assert (spans.reply([], as_json=True), spans.reply([], as_json=False)) == (b"{}", b"")
    refused = [Problem(number, "a", "end is missing", parts=2) for number in range(1, 31)]
    told = ExportTraceServiceResponse.FromString(spans.reply(refused, as_json=False)).partial_success
    assert told.rejected_spans == 60
    assert told.error_message.split("; ")[0] == "span 1: a end is missing"
    assert len(told.error_message.split("; ")) == 20
    partial = json.loads(spans.reply(refused[:1], as_json=True))["partialSuccess"]
    assert partial == {"rejectedSpans": "2", "errorMessage": "span 1: a end is missing"}


def test_routes_beyond_what_a_body_may_have_are_refused_singly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("domain.telemetry.span_series.MAX_NEW", 2)
    sent = [span(with_={"http.route": f"/{number % 3}"}) for number in range(4)]
    found = by_json(request(*sent), Slots())
    told = "is one of too many new series in a body: send it in parts"
    assert [(one.number, one.message) for one in found.problems] == [(3, told)]


def test_a_body_of_too_many_objects_is_not_read() -> None:
    body = b'{"resourceSpans": [' + b"{}," * 400_000 + b"{}]}"
    with pytest.raises(MalformedRequest, match="holds too many objects: send it in parts"):
        spans.Decoder(Slots()).json(body, at=NOW, oldest=NOW)
