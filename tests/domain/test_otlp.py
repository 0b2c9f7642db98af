"""Rows of OTLP metrics requests: the same by protobuf and by JSON."""

from typing import Any

import pytest

from domain.telemetry import sketches
from domain.telemetry.points import Kind, Mode, Problem
from tests.domain.otlp_requests import (
    CUMULATIVE,
    DOORS,
    MINUTE,
    ONE,
    SLOTS,
    Decode,
    Row,
    attributes,
    exponential,
    gauge,
    histogram,
    powers,
    request,
    rows,
    sent,
    total,
)


@pytest.fixture(params=DOORS)
def decode(request: pytest.FixtureRequest) -> Decode:
    door: Decode = request.param
    return door


def test_a_delta_sum_is_an_increment_placed_by_attributes(decode: Decode) -> None:
    counted = sent(second=59.9, asInt="12", with_={"outcome": "approved", "method": "card"})
    content = request(total("payments.count", counted), vitals__partner="visa")

    decoded = decode(content)

    assert rows(decoded) == [
        Row(
            account="m-1",
            metric="payments.count",
            labels=(("method", "card"), ("outcome", "approved"), ("partner", "visa")),
            source="pod-1",
            at=0,
            value=12.0,
            count=0,
            mode=Mode.ADD,
            number=1,
        )
    ]
    assert (decoded.problems, decoded.start.tolist(), decoded.time.tolist()) == ([], [0], [0])


def test_increments_come_as_they_were_sent_and_then_levels_in_order_of_time(decode: Decode) -> None:
    content = request(
        total("api.requests", sent(asInt="3"), sent(second=30, asInt="4"), sent(second=60, asInt="9")),
        gauge("queue.depth", *[sent(second=at, asDouble=at / 10) for at in (40, 20, 40)]),
        total("api.errors", sent(asInt="1")),
    )

    assert [(p.metric, p.at, p.value, p.mode, p.number) for p in rows(decode(content))] == [
        ("api.requests", 0, 3.0, Mode.ADD, 1),
        ("api.requests", 0, 4.0, Mode.ADD, 2),
        ("api.requests", 60, 9.0, Mode.ADD, 3),
        ("api.errors", 0, 1.0, Mode.ADD, 7),
        ("queue.depth", 0, 2.0, Mode.REPLACE, 5),
        ("queue.depth", 0, 4.0, Mode.REPLACE, 4),
        ("queue.depth", 0, 4.0, Mode.REPLACE, 6),
    ]


def test_histograms_keep_their_sum_and_count(decode: Decode) -> None:
    content = request(
        histogram("payments.latency", sent(count="2", sum=300.0), sent(count="1", sum=60.0)),
        histogram("checkout.size", sent(count="4", sum=10.0)),
    )

    decoded = decode(content)

    assert [(p.value, p.count, p.mode) for p in rows(decoded)] == [
        (300.0, 2, Mode.ADD),
        (60.0, 1, Mode.ADD),
        (10.0, 4, Mode.ADD),
    ]
    assert sketches.counts(decoded.sketches).tolist() == [0, 0, 0]


def test_running_totals_are_kept_with_their_start_and_the_time_of_reading(decode: Decode) -> None:
    since = {"startTimeUnixNano": str((MINUTE - 600) * 10**9)}
    content = request(
        total("api.requests", sent(second=5, asInt="30"), aggregationTemporality=CUMULATIVE),
        histogram("api.latency", sent(count="2", sum=3.0, **since), temporality=CUMULATIVE),
        exponential("checkout.size", powers([4], **since), temporality=CUMULATIVE),
    )

    decoded = decode(content)

    assert [(p.value, p.count, p.mode) for p in rows(decoded)] == [
        (3.0, 2, Mode.CUMULATIVE),
        (10.0, 4, Mode.CUMULATIVE),
        (30.0, 0, Mode.CUMULATIVE),
    ]
    assert [time - MINUTE * 10**9 for time in decoded.time.tolist()] == [0, 0, 5 * 10**9]
    assert decoded.start.tolist() == [(MINUTE - 600) * 10**9] * 2 + [0]


def test_readings_stand_in_order_of_time(decode: Decode) -> None:
    readings = [sent(second=at, asInt=str(at)) for at in (40, 20, 50)]
    content = request(total("api.requests", *readings, aggregationTemporality=CUMULATIVE))

    assert [row.value for row in rows(decode(content))] == [20, 40, 50]


def test_what_a_metric_is_that_is_not_understood_follows_from_how_it_is_sent(decode: Decode) -> None:
    content = request(
        gauge("kind.level", sent(**ONE)),
        total("kind.total", sent(**ONE)),
        total("kind.read", sent(**ONE), aggregationTemporality=CUMULATIVE),
        total("kind.open", sent(**ONE), aggregationTemporality=CUMULATIVE, isMonotonic=False),
        histogram("kind.size", sent(count="1", sum=1.0)),
        exponential("kind.power", powers([1])),
        gauge("payments.amount", sent(**ONE)),
    )

    decoded = decode(content)

    kinds = {SLOTS.identities[slot].metric: SLOTS.identities[slot].kind for slot in decoded.slot}
    assert kinds == {
        "kind.level": Kind.GAUGE,
        "kind.total": Kind.COUNT,
        "kind.read": Kind.COUNT,
        "kind.open": Kind.GAUGE,
        "kind.size": Kind.DISTRIBUTION,
        "kind.power": Kind.DISTRIBUTION,
        "payments.amount": Kind.AMOUNT,
    }


def test_many_sources_are_told_apart(decode: Decode) -> None:
    content: dict[str, Any] = {"resourceMetrics": []}
    for pod in ("pod-9", "pod-2", "pod-9"):
        content["resourceMetrics"] += request(gauge("a", sent(**ONE)), service__instance__id=pod)[
            "resourceMetrics"
        ]

    decoded = decode(content)

    assert [row.source for row in rows(decoded)] == ["pod-9", "pod-2", "pod-9"]
    assert sorted(decoded.sources) == ["pod-2", "pod-9"]


def test_latencies_in_other_units_become_milliseconds(decode: Decode) -> None:
    content = request(
        histogram("payments.latency", sent(count="2", sum=0.5), unit="s"),
        gauge("api.latency", sent(asInt="1500"), unit="us"),
        gauge("webhooks.latency", sent(asInt="1"), unit="By"),
    )

    decoded = decode(content)

    assert [(p.value, p.count) for p in rows(decoded)] == [(500.0, 2), (1.5, 1)]
    assert decoded.problems == [Problem(3, "webhooks.latency", "must be in ms (or s, us, ns), not in By")]


def test_the_nearest_attribute_places_a_point(decode: Decode) -> None:
    content = request(gauge("a", sent(asInt="1"), sent(asInt="2", with_={"vitals__account": "m-3"})))
    content["resourceMetrics"][0]["scopeMetrics"][0]["scope"]["attributes"] = attributes(
        vitals__account="m-2", vitals__service="payouts"
    )

    assert [(p.account, p.labels) for p in rows(decode(content))] == [
        ("m-2", (("service", "payouts"),)),
        ("m-3", (("service", "payouts"),)),
    ]


def test_the_source_is_the_instance_or_else_service_and_host(decode: Decode) -> None:
    named = {"service__name": "shop", "host__name": "h1"}
    content = request(gauge("a", sent(asInt="1")), **named, service__instance__id="")

    assert rows(decode(content))[0].source == "shop/h1"
    assert rows(decode(request(gauge("a", sent(asInt="1")), **named)))[0].source == "pod-1"


def test_plain_attributes_become_text_and_an_empty_one_is_no_label(decode: Decode) -> None:
    values = {
        "flag": {"boolValue": True},
        "status": {"intValue": "503"},
        "ratio": {"doubleValue": 0.5},
        "code": "",
        "none": {},
    }

    assert rows(decode(request(gauge("a", sent(asInt="1", with_=values)))))[0].labels == (
        ("flag", "true"),
        ("ratio", "0.5"),
        ("status", "503"),
    )


def test_a_cumulative_sum_that_may_fall_is_a_level_unless_it_must_count(decode: Decode) -> None:
    fields = {"isMonotonic": False, "aggregationTemporality": CUMULATIVE}
    content = request(
        total("sessions.open", sent(asInt="7"), **fields),
        total("payments.count", sent(asInt="7"), **fields),
    )

    decoded = decode(content)

    assert [(p.metric, p.mode) for p in rows(decoded)] == [("sessions.open", Mode.REPLACE)]
    assert [problem.field for problem in decoded.problems] == ["payments.count"]
