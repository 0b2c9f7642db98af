"""OTLP metrics requests as bodies: the rules of JSON, real examples, and what is no request."""

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from domain.telemetry import interning, otlp, wire_points, wire_structure
from domain.telemetry.points import MalformedRequest, Mode
from tests.domain.otlp_requests import (
    DECODER,
    MINUTE,
    NOW,
    OLDEST,
    attributes,
    by_json,
    gauge,
    histogram,
    is_nothing,
    request,
    rows,
    sent,
    total,
)


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

    assert [(p.at, p.value, p.mode) for p in rows(decoded)] == [(0, 12.0, Mode.ADD)]
    assert is_nothing(by_json({"resource_metrics": [1]}))
    assert is_nothing(by_json({"resourceMetrics": None}))


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
        DECODER.json(body, at=NOW, oldest=OLDEST)


GOOD = request(
    total("payments.count", sent(asInt="12", with_={"outcome": "approved"})),
    histogram("payments.latency", sent(count="2", sum=300.0)),
)
GOOD_PROTOBUF = ParseDict(GOOD, ExportMetricsServiceRequest()).SerializeToString()


@pytest.mark.parametrize("body", [GOOD_PROTOBUF[:-1], b"\xff" * 20, b'{"resourceMetrics": []}'])
def test_protobuf_that_is_no_request_is_malformed(body: bytes) -> None:
    with pytest.raises(MalformedRequest):
        DECODER.protobuf(body, at=NOW, oldest=OLDEST)


def test_an_empty_request_holds_nothing() -> None:
    assert is_nothing(DECODER.protobuf(b"", at=NOW, oldest=OLDEST))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=30), st.integers(0, len(GOOD_PROTOBUF)), st.integers(0, 30))
def test_any_protobuf_gives_points_or_a_refusal(noise: bytes, place: int, cut: int) -> None:
    for body in (noise, GOOD_PROTOBUF[:place] + noise + GOOD_PROTOBUF[place + cut :]):
        try:
            DECODER.protobuf(body, at=NOW, oldest=OLDEST)
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
            DECODER.json(text, at=NOW, oldest=OLDEST)
        except MalformedRequest:
            continue


def example(name: str) -> bytes:
    folder = os.environ.get("VITALS_TEST_DATA")
    if folder is None:
        pytest.skip("VITALS_TEST_DATA is not set")
    return (Path(folder) / "otlp" / name).read_bytes()


COMPILED = (wire_structure.walk, wire_structure.streams, wire_points.read, interning.lookup)
LONG_AGO = datetime(2018, 1, 1, tzinfo=UTC)


def test_the_examples_of_opentelemetry_are_read() -> None:
    """They are of 2018 and have no account: placed, all of them are kept."""
    content = json.loads(example("metrics.json"))
    content["resourceMetrics"][0]["resource"]["attributes"] += attributes(vitals__account="m-1")
    binary = ExportMetricsServiceRequest.FromString(example("metrics.protobuf-bin"))
    added = binary.resource_metrics[0].resource.attributes.add(key="vitals.account")
    added.value.string_value = "m-1"

    by_text = DECODER.json(json.dumps(content).encode(), at=NOW, oldest=LONG_AGO)
    by_wire = DECODER.protobuf(binary.SerializeToString(), at=NOW, oldest=LONG_AGO)

    assert rows(by_wire) == [row for row in rows(by_text) if row.metric != "my.exponential.histogram"]
    assert [(p.metric, p.value, p.count, p.mode) for p in rows(by_text)] == [
        ("my.counter", 5.0, 0, Mode.ADD),
        ("my.histogram", 2.0, 2, Mode.ADD),
        ("my.exponential.histogram", 10.0, 3, Mode.ADD),
        ("my.gauge", 10.0, 0, Mode.REPLACE),
    ]
    assert by_text.problems == by_wire.problems == []


def test_the_examples_of_opentelemetry_without_an_account_are_refused_whole() -> None:
    for decoded in (
        DECODER.json(example("metrics.json"), at=NOW, oldest=LONG_AGO),
        DECODER.protobuf(example("metrics.protobuf-bin"), at=NOW, oldest=LONG_AGO),
    ):
        assert len(decoded) == 0
        assert len(decoded.problems) >= 3


def test_logs_and_traces_hold_no_metrics() -> None:
    for name in ("logs.json", "trace.json", "events.json"):
        decoded = DECODER.json(example(name), at=NOW, oldest=LONG_AGO)
        assert is_nothing(decoded)


def test_warming_up_leaves_nothing_to_be_compiled() -> None:
    otlp.warm_up()
    before = [len(one.signatures) for one in COMPILED]

    assert len(DECODER.protobuf(GOOD_PROTOBUF, at=NOW, oldest=OLDEST)) == 2
    assert all(before)
    assert [len(one.signatures) for one in COMPILED] == before
