"""NDJSON points: what is read, and what is refused with its line and field."""

import json
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.telemetry import ndjson, sketches
from domain.telemetry.decoded import Decoded
from domain.telemetry.points import Kind, Mode, PointsRejected, Problem
from domain.telemetry.slots import Identity, Slots

NOW = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
OLDEST = NOW - timedelta(days=30)
MINUTE = 1_795_428_060  # 2026-11-23T10:01:00Z


def line(**changes: Any) -> bytes:
    """A good line; a change to `...` leaves the field out."""
    fields = {
        "account": "m-1",
        "metric": "payments.count",
        "at": "2026-11-23T10:01:00Z",
        "value": 12,
        "labels": {"outcome": "approved", "partner": "visa"},
    } | changes
    return json.dumps({key: value for key, value in fields.items() if value is not ...}).encode()


KNOWN = Slots()
DECODER = ndjson.Decoder(KNOWN)


def decode(*lines: bytes) -> Decoded:
    return DECODER.decode(b"\n".join(lines), at=NOW, oldest=OLDEST)


def identities(decoded: Decoded) -> list[Identity]:
    return [KNOWN.identities[slot] for slot in decoded.slot]


def refused(*lines: bytes) -> tuple[Problem, ...]:
    with pytest.raises(PointsRejected) as caught:
        decode(*lines)
    return caught.value.problems


def test_a_line_becomes_a_point_of_its_minute() -> None:
    decoded = decode(line(at="2026-11-23T11:01:59.999+01:00", source="pos-7"))

    labels = (("outcome", "approved"), ("partner", "visa"))
    assert identities(decoded) == [Identity("m-1", "payments.count", labels, Kind.COUNT)]
    assert decoded.sources == ("pos-7",)
    columns = (decoded.source, decoded.at, decoded.value, decoded.count, decoded.mode, decoded.number)
    assert [column.tolist() for column in columns] == [[0], [MINUTE], [12.0], [0], [Mode.REPLACE], [1]]
    assert (decoded.start.tolist(), decoded.time.tolist(), decoded.problems) == ([0], [0], [])


def test_labels_are_canonical_whatever_their_order_and_an_empty_one_is_no_label() -> None:
    one = line(labels={"partner": "visa", "outcome": "approved", "code": ""}, source="b")

    decoded = decode(one, line())
    assert decoded.slot[0] == decoded.slot[1]


def test_blank_lines_and_carriage_returns_are_skipped_and_numbers_are_those_of_the_lines() -> None:
    decoded = decode(b"", line() + b"\r", b"  \r", b"\x0c", line(source="b"), b"")

    assert decoded.number.tolist() == [2, 5]


def test_sources_are_told_apart() -> None:
    decoded = decode(line(), line(source="b"), line(metric="queue.depth"), line(source="c\u00e9"))

    assert [decoded.sources[source] for source in decoded.source] == ["", "b", "", "cé"]


def test_a_distribution_is_a_mean_of_observations_and_without_a_count_of_one() -> None:
    latency = {"metric": "payments.latency", "labels": {}, "value": 200.5}
    decoded = decode(
        line(**latency, count=4), line(**latency, source="b"), line(**latency, source="c", count=1)
    )

    assert decoded.count.tolist() == [4, 1, 1]
    assert decoded.value.tolist() == [802.0, 200.5, 200.5]


def test_of_one_observation_the_sketch_is_known_and_of_a_mean_none() -> None:
    latency = {"metric": "payments.latency", "labels": {}, "value": 200.5}
    decoded = decode(line(), line(**latency, count=4), line(**latency, source="b"))

    assert sketches.counts(decoded.sketches).tolist() == [0, 0, 1]
    assert sketches.quantiles(decoded.sketches, [0.5])[2, 0] == pytest.approx(200.5, rel=0.022)


def test_metrics_that_are_not_understood_are_taken_as_they_are() -> None:
    decoded = decode(line(metric="queue.depth", value=-0.25, labels={"outcome": "any"}))

    assert identities(decoded) == [Identity("m-1", "queue.depth", (("outcome", "any"),), Kind.GAUGE)]
    assert (decoded.value.tolist(), decoded.count.tolist()) == ([-0.25], [0])


def test_a_second_line_for_the_same_minute_names_both_lines() -> None:
    problems = refused(line(), line(source="b"), line(at="2026-11-23T10:01:30Z", value=3))

    message = "has the same series, source and minute as line 1"
    assert problems == (Problem(3, "", message),)


def test_one_bad_line_refuses_all_and_every_bad_line_is_named() -> None:
    problems = refused(line(), line(value="12"), line(account=""), line(at=...))

    assert [(problem.number, problem.field) for problem in problems] == [
        (2, "value"),
        (3, "account"),
        (4, "at"),
    ]


def test_at_most_twenty_problems_are_listed_and_all_are_counted() -> None:
    with pytest.raises(PointsRejected) as caught:
        decode(*[b"[]"] * 50)

    assert (len(caught.value.problems), caught.value.total) == (20, 50)
    assert str(caught.value) == "Nothing was taken: line 1: must be a JSON object (49 more)."


WHOLE = "must be a whole number below 2^53: payments.count is a count"
TIME = "must be a time with its zone, such as 2026-11-23T10:01:00Z"
FIELDS = "is not a field; the fields are account, metric, at, value, labels, source, count"
RATE = "is a rate: rates are derived from counts; send payments.count"
CONTROL = "must not hold control characters"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"account": ...}, "account", "is missing"),
        ({"account": ""}, "account", "must not be empty"),
        ({"account": 7}, "account", "must be text"),
        ({"account": "a" * 201}, "account", "must have at most 200 characters"),
        ({"account": "a\x00b"}, "account", CONTROL),
        ({"metric": None}, "metric", "must be text"),
        ({"metric": "authorization_rate"}, "metric", RATE),
        ({"metric": "shop.Completion_rate"}, "metric", RATE),
        ({"at": "2026-11-23T10:01:00"}, "at", TIME),
        ({"at": "yesterday"}, "at", TIME),
        ({"at": 1795428060}, "at", TIME),
        ({"at": "2026-11-23T10:11:00Z"}, "at", "is more than 5 minutes in the future"),
        ({"at": "2026-10-23T10:01:00Z"}, "at", "is older than points may be"),
        ({"at": "0001-01-01T00:00:00+23:59"}, "at", "is older than points may be"),
        ({"at": "9999-12-31T23:59:59-23:59"}, "at", "is more than 5 minutes in the future"),
        ({"value": True}, "value", "must be a finite number"),
        ({"value": None}, "value", "must be a finite number"),
        ({"value": "12"}, "value", "must be a finite number"),
        ({"value": 10**400}, "value", "must be a finite number"),
        ({"value": 1e201}, "value", "must not exceed 1e+200"),
        ({"value": 1.5}, "value", WHOLE),
        ({"value": 2**53}, "value", WHOLE),
        ({"value": -1}, "value", "must not be negative: payments.count never is"),
        (
            {"metric": "fraud.amount", "value": 0.5},
            "value",
            "must be a whole number below 2^53: fraud.amount is an amount in minor units",
        ),
        ({"count": 1.5}, "count", "must be a whole number"),
        ({"count": 3}, "count", "belongs to distributions: payments.count is a count"),
        ({"source": "a\nb"}, "source", CONTROL),
        ({"labels": ["a"]}, "labels", "must be an object of texts"),
        ({"labels": {"code": 5}}, "labels.code", "must be text"),
        ({"labels": {"code": {"a": "b"}}}, "labels.code", "must be text"),
        ({"labels": {f"k{i}": "v" for i in range(17)}}, "labels", "must be at most 16"),
        ({"labels": {"code": "x" * 201}}, "labels.code", "must have at most 200 characters"),
        ({"labels": {"code": "\x00"}}, "labels.code", CONTROL),
        ({"colour": "red"}, "colour", FIELDS),
        ({"x` - at `$.value": 1}, "x` - at `$.value", FIELDS),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], field: str, message: str) -> None:
    second = line(**{"source": "b"} | changes)

    assert refused(line(), second) == (Problem(2, field, message),)


def test_an_outcome_of_payments_is_one_of_those_known() -> None:
    assert refused(line(labels={"outcome": "denied"})) == (
        Problem(
            1,
            "labels.outcome",
            "must be one of approved, declined, failed, blocked, reversed, refunded, disputed, processing",
        ),
    )


def test_names_of_metrics_and_labels_are_plain() -> None:
    bad = line(metric="1 st", labels={"pâys": "FR"})

    assert [problem.field for problem in refused(bad)] == ["metric", "labels.pâys"]


def test_an_amount_names_its_currency_as_iso_4217_does() -> None:
    amount = {"metric": "payments.amount", "value": -500}

    assert decode(line(**amount, labels={"currency": "EUR"})).value.tolist() == [-500.0]
    assert refused(line(**amount, labels={"currency": "euro"})) == (
        Problem(1, "labels.currency", "must be an ISO 4217 code such as EUR"),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"account": "\xc3\xa9", "metric" 1}', "is not JSON at column 27: expected ':'"),
        (b'{"account": NaN}', "is not JSON at column 13: invalid character"),
        (b'{"account": "a"', "is not JSON: it ends too early, or in half a surrogate pair"),
        (b'{"account": "\\ud800"}', "is not JSON: it ends too early, or in half a surrogate pair"),
        (line() + b"}", f"is not JSON at column {len(line()) + 1}: trailing characters"),
        (b"null", "must be a JSON object"),
        (b"[" * 100_000, "must be a JSON object"),
        (b'{"labels": {"a": ' + b"[" * 100_000, "is nested too deeply"),
        (b'{"account": "\xff"}', "is not UTF-8 at column 14"),
    ],
)
def test_what_is_not_json_is_named_by_line_and_column(text: bytes, message: str) -> None:
    assert refused(line(), text) == (Problem(2, "", message),)


@pytest.mark.parametrize("body", [b"", b"\n \r\n\n"])
def test_a_body_without_points_is_refused(body: bytes) -> None:
    assert refused(body) == (Problem(1, "", "must be a point: the body has none"),)


def test_a_request_has_at_most_ten_thousand_points() -> None:
    lines = [line(source=str(i)) for i in range(10_000)]

    assert len(decode(*lines)) == 10_000
    assert refused(*lines, line(), line()) == (
        Problem(10_001, "", "is one too many: a request has at most 10000 points"),
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
FIELD = st.sampled_from(["account", "metric", "at", "value", "labels", "source", "count", "more"])


@settings(deadline=None, max_examples=300)
@given(st.dictionaries(FIELD, JSON), st.binary(max_size=20), st.integers(0, 200))
def test_any_bytes_give_points_or_a_refusal(changes: dict[str, Any], noise: bytes, place: int) -> None:
    body = line(**changes)
    for sent in (body, body[:place] + noise + body[place:], body[:place], noise):
        with suppress(PointsRejected):
            assert len(decode(sent))


def test_of_labels_that_are_no_texts_the_first_are_named() -> None:
    line = {"account": "m-1", "metric": "queue.depth", "at": "2026-11-23T10:01:00Z", "value": 1}
    labels = {f"l{number}": number for number in range(1_000)}
    at = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
    with pytest.raises(PointsRejected) as caught:
        ndjson.Decoder(Slots()).decode(json.dumps({**line, "labels": labels}).encode(), at=at, oldest=at)
    assert caught.value.total == 16
