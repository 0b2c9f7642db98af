"""What is refused of OTLP metrics requests: item by item, and what the sender is told."""

import json
from typing import Any

import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceResponse

from domain.telemetry import otlp
from domain.telemetry.points import MalformedRequest, Problem
from tests.domain.otlp_requests import (
    CUMULATIVE,
    DOORS,
    MINUTE,
    ONE,
    Decode,
    buckets,
    exponential,
    gauge,
    histogram,
    powers,
    request,
    rows,
    sent,
    total,
)

NEEDS_TEMPORALITY = "needs delta or cumulative temporality"


@pytest.fixture(params=DOORS)
def decode(request: pytest.FixtureRequest) -> Decode:
    door: Decode = request.param
    return door


UNRULY_BOUNDS = "has bounds that are not finite or do not rise"
TOO_MANY = "count must be from 1 to 1000000000; leave out a minute without observations"
BELOW_ZERO = "has observations below zero, whose distribution is not kept"
LATER = str((MINUTE + 1) * 10**9)
SUMMARY = {"name": "b", "summary": {"dataPoints": [sent(count="3", sum=10.0)]}}


@pytest.mark.parametrize(
    ("metric", "message"),
    [
        (total("b", sent(**ONE), aggregationTemporality=0), NEEDS_TEMPORALITY),
        (
            total("b", sent(startTimeUnixNano=LATER, **ONE), aggregationTemporality=CUMULATIVE),
            "has a start after its time",
        ),
        (
            total("b", sent(**ONE), isMonotonic=False),
            "is a sum that is not monotonic: send a monotonic delta sum or a gauge",
        ),
        (
            {"name": "b", "histogram": {"dataPoints": [sent(count="1", sum=1.0)]}},
            NEEDS_TEMPORALITY,
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
        (histogram("b", buckets([1, 2], [5.0, 9.0])), "has 2 bucket counts for 2 bounds"),
        (histogram("b", buckets([1], [5.0])), "has 1 bucket counts for 1 bounds"),
        (histogram("b", buckets([1, 1, 1], [5.0, 5.0])), UNRULY_BOUNDS),
        (histogram("b", buckets([1, 1, 1], [5.0, "NaN"])), UNRULY_BOUNDS),
        (histogram("b", buckets([1, 1, 1], [5.0, "Infinity"])), UNRULY_BOUNDS),
        (histogram("b", buckets([1, 1], ["-Infinity"])), UNRULY_BOUNDS),
        (histogram("b", buckets([1, 1, 1], [-1.0, 5.0])), BELOW_ZERO),
        (
            histogram("b", buckets([1, 2], [5.0], count="2")),
            "has bucket counts that do not add up to its count",
        ),
        (histogram("b", buckets([1] * 10_001, list(range(10_000)))), "has more than 10000 buckets"),
        (exponential("b", sent(count="3", sum=1.0)), "has bucket counts that do not add up to its count"),
        (exponential("b", powers([1, 2], sum=None)), "is a histogram without its sum"),
        (exponential("b", powers([1, 2], scale=21)), "has the scale 21: it must be from -10 to 20"),
        (exponential("b", powers([1, 2], negative={"bucketCounts": ["1"]})), BELOW_ZERO),
        (
            exponential("b", powers([1, 2], zeroCount="1")),
            "has bucket counts that do not add up to its count",
        ),
        (exponential("b", powers([1] * 10_001)), "has more than 10000 buckets"),
        (exponential("b", powers([1, 2]), temporality=0), NEEDS_TEMPORALITY),
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
        (total("b", sent(asDouble=1e201)), "value must not exceed 1e+200"),
        (
            total("api.requests", sent(asDouble=0.5)),
            "value must be a whole number below 2^53: api.requests is a count",
        ),
        (gauge("api.latency", sent(asInt="-1")), "value must not be negative: api.latency never is"),
        (histogram("b", sent(count="1000000001", sum=1.0)), TOO_MANY),
        (histogram("b", sent(count=str(2**63 - 1), sum=1.0)), TOO_MANY),
        (
            gauge("a b", sent(**ONE)),
            "metric must be a letter and then at most 199 letters, digits or any of _ . / -",
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

    assert [row.metric for row in rows(decoded)] == ["a"]
    assert decoded.problems == [Problem(2, metric["name"], message)]


def test_a_source_that_is_no_text_of_ours_refuses_its_points(decode: Decode) -> None:
    decoded = decode(request(gauge("a", sent(**ONE), sent(flags=1)), service__instance__id="p" * 201))

    assert decoded.problems == [Problem(1, "a", "source must have at most 200 characters")]


def test_a_body_with_too_many_data_points_is_refused_whole(decode: Decode) -> None:
    many = [{}] * 50_001

    with pytest.raises(MalformedRequest, match="The body has more than 100000 data points: send it in parts"):
        decode(request(gauge("a", *many), gauge("b", *many)))


def test_nothing_recorded_is_nothing_kept_and_nothing_refused(decode: Decode) -> None:
    content = request(gauge("a", sent(flags=1), sent(asInt="1")), histogram("b", sent(count="0", sum=0.0)))

    decoded = decode(content)

    assert [(p.metric, p.number) for p in rows(decoded)] == [("a", 2)]
    assert decoded.problems == []


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


def test_points_with_very_many_attributes_are_refused(decode: Decode) -> None:
    many = {f"key{number}": "" for number in range(1_001)}
    too_many = "has more than 1000 attributes on its resource, scope or point"
    content = request(gauge("a", sent(**ONE, with_=many), sent(**ONE)))

    assert decode(content).problems == [Problem(1, "a", too_many)]
    assert decode(request(gauge("a", sent(**ONE)), **many)).problems == [Problem(1, "a", too_many)]


def test_a_long_resource_is_read_once_however_many_metrics_it_has(decode: Decode) -> None:
    content = request(*[gauge(f"m{number}", sent(**ONE)) for number in range(300)], filler="x" * 40_000)

    for _ in range(2):
        assert [row.metric for row in rows(decode(content))] == [f"m{number}" for number in range(300)]
