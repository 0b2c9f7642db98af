"""OTLP metrics requests: the same points by protobuf and by JSON, and refusals item by item."""

import json
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from domain.telemetry import otlp
from domain.telemetry.otlp import Decoded
from domain.telemetry.points import MalformedRequest, Mode, Point, Problem

NOW = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
OLDEST = NOW - timedelta(days=30)
MINUTE = 1_795_428_060  # 2026-11-23T10:01:00Z
CUMULATIVE, DELTA = 2, 1
NEEDS_DELTA = "needs delta temporality (OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta)"


def attributes(**values: Any) -> list[dict[str, Any]]:
    """Attributes; `__` stands for a dot, and a dict is a value as OTLP writes it."""
    return [
        {
            "key": key.replace("__", "."),
            "value": value if isinstance(value, dict) else {"stringValue": value},
        }
        for key, value in values.items()
    ]


def sent(*, second: float = 0, with_: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    """A data point, `second` seconds after the minute began."""
    time = MINUTE * 10**9 + int(second * 10**9)
    return {"timeUnixNano": str(time), "attributes": attributes(**(with_ or {}))} | fields


def total(name: str, *data_points: dict[str, Any], **fields: Any) -> dict[str, Any]:
    data = {"aggregationTemporality": DELTA, "isMonotonic": True, "dataPoints": list(data_points)}
    return {"name": name, "sum": data | fields}


def gauge(name: str, *data_points: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"name": name, "gauge": {"dataPoints": list(data_points)}} | fields


def histogram(name: str, *data_points: dict[str, Any], **fields: Any) -> dict[str, Any]:
    data = {"aggregationTemporality": DELTA, "dataPoints": list(data_points)}
    return {"name": name, "histogram": data} | fields


def request(*metrics: dict[str, Any], **resource: Any) -> dict[str, Any]:
    placed = {"vitals__account": "m-1", "service__instance__id": "pod-1"} | resource
    scope = {"scope": {"name": "checkout"}, "metrics": list(metrics)}
    of_resource = {"resource": {"attributes": attributes(**placed)}, "scopeMetrics": [scope]}
    return {"resourceMetrics": [of_resource]}


def by_protobuf(content: dict[str, Any]) -> Decoded:
    body = ParseDict(content, ExportMetricsServiceRequest()).SerializeToString()
    return otlp.decode_protobuf(body, at=NOW, oldest=OLDEST)


def by_json(content: dict[str, Any]) -> Decoded:
    return otlp.decode_json(json.dumps(content).encode(), at=NOW, oldest=OLDEST)


@pytest.fixture(params=[by_protobuf, by_json])
def decode(request: pytest.FixtureRequest) -> Callable[[dict[str, Any]], Decoded]:
    door: Callable[[dict[str, Any]], Decoded] = request.param
    return door


Decode = Callable[[dict[str, Any]], Decoded]


def test_a_delta_sum_is_an_increment_placed_by_attributes(decode: Decode) -> None:
    counted = sent(second=59.9, asInt="12", with_={"outcome": "approved", "method": "card"})
    content = request(total("payments.count", counted), vitals__partner="visa")

    assert decode(content) == Decoded(
        points=[
            Point(
                account="m-1",
                metric="payments.count",
                at=MINUTE,
                value=12.0,
                labels=(("method", "card"), ("outcome", "approved"), ("partner", "visa")),
                source="pod-1",
                mode=Mode.ADD,
            )
        ],
        rejected=[],
    )


def test_increments_of_a_minute_are_summed_and_levels_are_the_latest(decode: Decode) -> None:
    content = request(
        total("api.requests", sent(asInt="3"), sent(second=30, asInt="4"), sent(second=60, asInt="9")),
        gauge("queue.depth", sent(second=40, asDouble=5.5), sent(second=20, asDouble=8.0)),
    )

    points = decode(content).points

    assert [(p.metric, p.at - MINUTE, p.value, p.mode, p.number, p.parts) for p in points] == [
        ("api.requests", 0, 7.0, Mode.ADD, 1, 2),
        ("api.requests", 60, 9.0, Mode.ADD, 3, 1),
        ("queue.depth", 0, 5.5, Mode.REPLACE, 4, 2),
    ]


def test_histograms_keep_their_sum_and_count(decode: Decode) -> None:
    content = request(
        histogram("payments.latency", sent(count="2", sum=300.0), sent(count="1", sum=60.0)),
        histogram("checkout.size", sent(count="4", sum=10.0)),
    )

    points = decode(content).points

    assert [(p.value, p.count, p.total, p.mode) for p in points] == [
        (120.0, 3, 360.0, Mode.ADD),
        (2.5, 4, 10.0, Mode.ADD),
    ]


def test_latencies_in_other_units_become_milliseconds(decode: Decode) -> None:
    content = request(
        histogram("payments.latency", sent(count="2", sum=0.5), unit="s"),
        gauge("api.latency", sent(asInt="1500"), unit="us"),
        gauge("webhooks.latency", sent(asInt="1"), unit="By"),
    )

    decoded = decode(content)

    assert [(p.value, p.count) for p in decoded.points] == [(250.0, 2), (1.5, 1)]
    assert decoded.rejected == [Problem(3, "webhooks.latency", "must be in ms (or s, us, ns), not in By")]


def test_the_nearest_attribute_places_a_point(decode: Decode) -> None:
    content = request(gauge("a", sent(asInt="1"), sent(asInt="2", with_={"vitals__account": "m-3"})))
    content["resourceMetrics"][0]["scopeMetrics"][0]["scope"]["attributes"] = attributes(
        vitals__account="m-2", vitals__service="payouts"
    )

    assert [(p.account, p.labels) for p in decode(content).points] == [
        ("m-2", (("service", "payouts"),)),
        ("m-3", (("service", "payouts"),)),
    ]


def test_the_source_is_the_instance_or_else_service_and_host(decode: Decode) -> None:
    named = {"service__name": "shop", "host__name": "h1"}
    content = request(gauge("a", sent(asInt="1")), **named, service__instance__id="")

    assert decode(content).points[0].source == "shop/h1"
    assert decode(request(gauge("a", sent(asInt="1")), **named)).points[0].source == "pod-1"


def test_plain_attributes_become_text_and_an_empty_one_is_no_label(decode: Decode) -> None:
    values = {
        "flag": {"boolValue": True},
        "status": {"intValue": "503"},
        "ratio": {"doubleValue": 0.5},
        "code": "",
        "none": {},
    }

    assert decode(request(gauge("a", sent(asInt="1", with_=values)))).points[0].labels == (
        ("flag", "true"),
        ("ratio", "0.5"),
        ("status", "503"),
    )


def test_nothing_recorded_is_nothing_kept_and_nothing_refused(decode: Decode) -> None:
    content = request(gauge("a", sent(flags=1), sent(asInt="1")), histogram("b", sent(count="0", sum=0.0)))

    decoded = decode(content)

    assert [(p.metric, p.number) for p in decoded.points] == [("a", 2)]
    assert decoded.rejected == []


def test_a_cumulative_sum_that_may_fall_is_a_level_unless_it_must_count(decode: Decode) -> None:
    fields = {"isMonotonic": False, "aggregationTemporality": CUMULATIVE}
    content = request(
        total("sessions.open", sent(asInt="7"), **fields),
        total("payments.count", sent(asInt="7"), **fields),
    )

    decoded = decode(content)

    assert [(p.metric, p.mode) for p in decoded.points] == [("sessions.open", Mode.REPLACE)]
    assert [problem.field for problem in decoded.rejected] == ["payments.count"]


EXPONENTIAL = {"name": "b", "exponentialHistogram": {"dataPoints": [sent(count="3", sum=10.0)]}}
SUMMARY = {"name": "b", "summary": {"dataPoints": [sent(count="3", sum=10.0)]}}
ONE: dict[str, Any] = {"asInt": "1"}


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (total("b", sent(**ONE), aggregationTemporality=CUMULATIVE), NEEDS_DELTA),
        (total("b", sent(**ONE), aggregationTemporality=0), NEEDS_DELTA),
        (
            total("b", sent(**ONE), isMonotonic=False),
            "is a sum that is not monotonic: send a monotonic delta sum or a gauge",
        ),
        (
            {"name": "b", "histogram": {"dataPoints": [sent(count="1", sum=1.0)]}},
            NEEDS_DELTA,
        ),
        (histogram("b", sent(count="1")), "is a histogram without its sum"),
        (
            histogram("api.requests", sent(count="2", sum=4.0)),
            "count belongs to distributions: api.requests is a count",
        ),
        (
            total("api.latency", sent(**ONE)),
            "is sent as sum, which is not kept: send a histogram",
        ),
        (
            SUMMARY,
            "is sent as summary, which is not kept: send a histogram with explicit bounds",
        ),
        (
            EXPONENTIAL,
            "is sent as exponential histogram, which is not kept: send a histogram with explicit bounds",
        ),
        (gauge("b", sent()), "has no value"),
        (gauge("b", sent(timeUnixNano="0", **ONE)), "has no time"),
        (gauge("b", sent(second=600, **ONE)), "at is more than 5 minutes in the future"),
        (gauge("b", sent(second=-31 * 86_400, **ONE)), "at is older than points may be"),
        (gauge("b", sent(asDouble="NaN")), "value must be a finite number"),
        (gauge("b", sent(asDouble="-Infinity")), "value must be a finite number"),
        (
            gauge("b", sent(with_={"list": {"arrayValue": {}}}, **ONE)),
            "labels.list must be text, a boolean or a number",
        ),
        (
            gauge("b", sent(with_={"vitals__acount": "m"}, **ONE)),
            "has the unknown attribute vitals.acount; known are vitals.account, vitals.service,"
            " vitals.partner",
        ),
        (
            gauge("b", sent(with_={"vitals__partner": "visa", "partner": "amex"}, **ONE)),
            "has two values for partner, visa and amex",
        ),
        (
            gauge("b", sent(with_={"vitals__account": {"arrayValue": {}}}, **ONE)),
            "has no vitals.account attribute (text) on its resource, scope or point",
        ),
        (total("a", sent(asInt="1")), "has values of different shapes in one minute"),
        (
            gauge("completion_rate", sent(asDouble=0.9)),
            "metric is a rate: rates are derived from counts; send payments.count",
        ),
    ],
)
def test_what_cannot_be_kept_is_refused_alone(decode: Decode, metric: dict[str, Any], message: str) -> None:
    decoded = decode(request(gauge("a", sent(asInt="1")), metric))

    assert [point.metric for point in decoded.points] == ["a"]
    assert decoded.rejected == [Problem(2, metric["name"], message)]


def test_the_reply_counts_and_names_what_was_refused() -> None:
    problems = [Problem(2, "a", "has no time", parts=3), Problem(7, "b", "has no value")]

    response = ExportMetricsServiceResponse.FromString(otlp.reply(problems, as_json=False))

    text = "data point 2: a has no time; data point 7: b has no value"
    assert response.partial_success.rejected_data_points == 4
    assert response.partial_success.error_message == text
    assert json.loads(otlp.reply(problems, as_json=True)) == {
        "partialSuccess": {"rejectedDataPoints": "4", "errorMessage": text}
    }


def test_the_reply_to_a_good_request_is_empty() -> None:
    assert (otlp.reply([], as_json=False), otlp.reply([], as_json=True)) == (b"", b"{}")


def test_json_follows_the_rules_of_otlp() -> None:
    counted = sent(
        asInt=12,
        with_={"outcome": "approved"},
        timeUnixNano=MINUTE * 10**9,
        exemplars=[{"traceId": "5b8efff798038103d269b633813fc60c", "spanId": "eee19b7ec3c1b174"}],
        flags=None,
        moreOfThis=[{"deep": {}}],
    )
    metric = total("payments.count", counted, aggregationTemporality="AGGREGATION_TEMPORALITY_DELTA")

    decoded = by_json(request(metric))

    assert [(p.at, p.value, p.mode) for p in decoded.points] == [(MINUTE, 12.0, Mode.ADD)]
    assert by_json({"resource_metrics": [1]}) == Decoded([], [])
    assert by_json({"resourceMetrics": None}) == Decoded([], [])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'"x"',
        b'{"resourceMetrics": {}}',
        b'{"resourceMetrics": [{"resource": "\\ud800"}]}',
        b'{"a": "\xff"}',
        b'{"resourceMetrics": [{"scopeMetrics": [{"metrics": [{"name": 5}]}]}]}',
        b'{"a": ' + b"[" * 100_000,
        json.dumps(request(gauge("a", sent(asInt="9" * 5_000)))).encode(),
        json.dumps(request(gauge("a", sent(asInt="9" * 400)))).encode(),
        json.dumps(request(gauge("a", sent(timeUnixNano="-1")))).encode(),
        json.dumps(request(gauge("a", sent(asInt="twelve")))).encode(),
    ],
)
def test_json_that_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        otlp.decode_json(body, at=NOW, oldest=OLDEST)


GOOD = request(
    total("payments.count", sent(asInt="12", with_={"outcome": "approved"})),
    histogram("payments.latency", sent(count="2", sum=300.0)),
)
GOOD_PROTOBUF = ParseDict(GOOD, ExportMetricsServiceRequest()).SerializeToString()


@pytest.mark.parametrize("body", [GOOD_PROTOBUF[:-1], b"\xff" * 20, b'{"resourceMetrics": []}'])
def test_protobuf_that_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        otlp.decode_protobuf(body, at=NOW, oldest=OLDEST)


def test_an_empty_request_holds_nothing() -> None:
    assert otlp.decode_protobuf(b"", at=NOW, oldest=OLDEST) == Decoded([], [])


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=30), st.integers(0, len(GOOD_PROTOBUF)), st.integers(0, 30))
def test_any_protobuf_gives_points_or_a_refusal(noise: bytes, place: int, cut: int) -> None:
    for body in (noise, GOOD_PROTOBUF[:place] + noise + GOOD_PROTOBUF[place + cut :]):
        try:
            otlp.decode_protobuf(body, at=NOW, oldest=OLDEST)
        except MalformedRequest:
            continue


def places(content: Any) -> Iterator[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    keys = content if isinstance(content, dict) else range(len(content))
    for key in list(keys):
        yield content, key
        if isinstance(content[key], dict | list):
            yield from places(content[key])


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=4,
)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.tuples(st.integers(0, 200), ANY), min_size=1, max_size=4), st.data())
def test_any_json_gives_points_or_a_refusal(changes: list[tuple[int, Any]], data: Any) -> None:
    content = json.loads(json.dumps(GOOD))
    for index, value in changes:
        found = list(places(content))
        if found:
            container, key = found[index % len(found)]
            container[key] = value
    body = json.dumps(content).encode()
    cut = data.draw(st.integers(0, len(body)))
    for text in (body, body[:cut]):
        try:
            otlp.decode_json(text, at=NOW, oldest=OLDEST)
        except MalformedRequest:
            continue


def example(name: str) -> bytes:
    folder = os.environ.get("VITALS_TEST_DATA")
    if folder is None:
        pytest.skip("VITALS_TEST_DATA is not set")
    return (Path(folder) / "otlp" / name).read_bytes()


LONG_AGO = datetime(2018, 1, 1, tzinfo=UTC)


def test_the_examples_of_opentelemetry_are_read() -> None:
    """They are of 2018 and have no account: placed, all but the exponential histogram are kept."""
    content = json.loads(example("metrics.json"))
    content["resourceMetrics"][0]["resource"]["attributes"] += attributes(vitals__account="m-1")
    binary = ExportMetricsServiceRequest.FromString(example("metrics.protobuf-bin"))
    added = binary.resource_metrics[0].resource.attributes.add(key="vitals.account")
    added.value.string_value = "m-1"

    by_text = otlp.decode_json(json.dumps(content).encode(), at=NOW, oldest=LONG_AGO)
    by_wire = otlp.decode_protobuf(binary.SerializeToString(), at=NOW, oldest=LONG_AGO)

    assert by_wire.points == by_text.points
    assert [(p.metric, p.value, p.count, p.mode) for p in by_text.points] == [
        ("my.counter", 5.0, None, Mode.ADD),
        ("my.gauge", 10.0, None, Mode.REPLACE),
        ("my.histogram", 1.0, 2, Mode.ADD),
    ]
    assert [problem.field for problem in by_text.rejected] == ["my.exponential.histogram"]


def test_the_examples_of_opentelemetry_without_an_account_are_refused_whole() -> None:
    for decoded in (
        otlp.decode_json(example("metrics.json"), at=NOW, oldest=LONG_AGO),
        otlp.decode_protobuf(example("metrics.protobuf-bin"), at=NOW, oldest=LONG_AGO),
    ):
        assert decoded.points == []
        assert len(decoded.rejected) >= 3


def test_logs_and_traces_hold_no_metrics() -> None:
    for name in ("logs.json", "trace.json", "events.json"):
        decoded = otlp.decode_json(example(name), at=NOW, oldest=LONG_AGO)
        assert decoded == Decoded([], [])
