"""Columns of JSON: the points that lines would say, and refusals that name the place."""

import json
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from domain.telemetry import columnar, ndjson, points, sketches
from domain.telemetry.decoded import Decoded
from domain.telemetry.points import MalformedRequest, Mode, PointsRejected, Problem
from domain.telemetry.slots import Slots

NOW = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
BOUNDS = {"at": NOW, "oldest": NOW - timedelta(days=90)}
MINUTE = 1_795_428_060  # 2026-11-23T10:01:00Z

Registered = Mapping[tuple[str, int], tuple[str, Mapping[str, str]]]
SERIES: Registered = {
    ("m-1", 1): ("payments.count", {"outcome": "approved"}),
    ("m-1", 2): ("payments.latency", {}),
    ("m-1", 3): ("fraud.amount", {"currency": "EUR"}),
    ("m-1", 7): ("queue.depth", {"a": "1"}),
    ("m-2", 1): ("queue.depth", {"a": "1"}),
}


def account(**changes: Any) -> dict[str, Any]:
    columns = {
        "account": "m-1",
        "series": [7, 1],
        "at": [MINUTE, "2026-11-23T10:02:59.5Z"],
        "value": [-0.5, 12],
    }
    return {name: column for name, column in (columns | changes).items() if column is not ...}


def decode(known: Slots, body: object) -> Decoded:
    slots = {
        key: known.slot(key[0], metric, points.labels(labels)) for key, (metric, labels) in SERIES.items()
    }

    def slot_of(name: str, numbers: NDArray[np.int32]) -> NDArray[np.int32]:
        return np.array([slots.get((name, number), -1) for number in numbers.tolist()], np.int32)

    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return columnar.decode(columnar.parse(text), slot_of, known, **BOUNDS)


def refused(*accounts: object, **more: object) -> tuple[Problem, ...]:
    with pytest.raises(PointsRejected) as caught:
        decode(Slots(), {"accounts": accounts} | more)
    return caught.value.problems


def test_rows_of_columns_are_points_of_their_minutes() -> None:
    known = Slots()
    other = account(account="m-2", series=[1], at=[MINUTE + 59], value=[3])
    decoded = decode(known, {"source": "pod-3", "accounts": [account(), other]})

    assert [known.identities[slot][:2] for slot in decoded.slot] == [
        ("m-1", "queue.depth"),
        ("m-1", "payments.count"),
        ("m-2", "queue.depth"),
    ]
    assert decoded.at.tolist() == [MINUTE, MINUTE + 60, MINUTE]
    assert (decoded.value.tolist(), decoded.count.tolist()) == ([-0.5, 12, 3], [0, 0, 0])
    assert (decoded.sources, decoded.source.tolist()) == (("pod-3",), [0, 0, 0])
    assert (decoded.number.tolist(), decoded.mode.tolist()) == ([1, 2, 3], [Mode.REPLACE] * 3)


def test_a_distribution_is_a_mean_of_observations_and_without_a_count_of_one() -> None:
    at = [MINUTE, MINUTE + 60, MINUTE + 120]
    decoded = decode(
        Slots(), {"accounts": [account(series=[2, 2, 7], at=at, value=[200.5, 200.5, 4], count=[4, 0, 2])]}
    )

    assert (decoded.value.tolist(), decoded.count.tolist()) == ([802.0, 200.5, 8.0], [4, 1, 2])
    assert sketches.counts(decoded.sketches).tolist() == [0, 1, 0]


NUMBER = "must be a whole number from 1 to 2147483647"
TIME = "must be epoch seconds or a time with its zone, such as 2026-11-23T10:01:00Z"
COUNT = "must be a whole number from 0 (no observations) to 1000000000"
FIELDS = "is not a field; the fields are account, series, at, value, count"


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"account": ...}, "account", "is missing"),
        ({"value": ...}, "value", "is missing"),
        ({"account": 1}, "account", "must be text"),
        ({"series": 1}, "series", "must be a list of numbers of series"),
        ({"series": [], "at": [], "value": []}, "series", "must not be empty"),
        ({"series": [1, 0]}, "series[1]", NUMBER),
        ({"series": [1, 2**31]}, "series[1]", NUMBER),
        ({"series": [1, 10**30]}, "series[1]", NUMBER),
        ({"series": [1.5, 1]}, "series[0]", NUMBER),
        ({"at": [MINUTE, "soon"]}, "at[1]", TIME),
        ({"at": [MINUTE, "2026-11-23T10:02:00"]}, "at[1]", TIME),
        ({"at": [MINUTE, 1000 * MINUTE]}, "at[1]", TIME),
        ({"at": [MINUTE, -1]}, "at[1]", TIME),
        ({"at": [MINUTE, None]}, "at[1]", TIME),
        ({"at": [MINUTE]}, "at", "must be 2 long, as series is, not 1"),
        ({"value": [1, 2, 3]}, "value", "must be 2 long, as series is, not 3"),
        ({"value": [1, "2"]}, "value[1]", "must be a finite number"),
        ({"value": [1, 10**400]}, "value[1]", "must be a finite number"),
        ({"count": [0]}, "count", "must be 2 long, as series is, not 1"),
        ({"count": [0, -1]}, "count[1]", COUNT),
        ({"count": [0, 10**9 + 1]}, "count[1]", COUNT),
        ({"colour": "red"}, "colour", FIELDS),
    ],
)
def test_what_is_not_of_the_form_is_named(changes: dict[str, Any], field: str, message: str) -> None:
    problem = Problem(1, f"accounts[1].{field}", message)

    assert refused(account(account="m-2"), account(**changes)) == (problem,)


@pytest.mark.parametrize(
    ("changes", "field", "message"),
    [
        ({"series": [7, 4]}, "series[1]", "is not the number of a series of this account"),
        ({"account": "m-2", "series": [1, 7]}, "series[1]", "is not the number of a series of this account"),
        ({"at": [MINUTE, MINUTE + 600]}, "at[1]", "is more than 5 minutes in the future"),
        ({"at": [MINUTE, 0]}, "at[1]", "is older than points may be"),
        ({"value": [1, 1.5]}, "value[1]", "must be a whole number below 2^53: payments.count is a count"),
        ({"value": [1, -1]}, "value[1]", "must not be negative: payments.count never is"),
        ({"value": [1, 1e201], "series": [7, 7]}, "value[1]", "must not exceed 1e+200"),
        ({"count": [0, 1]}, "count[1]", "belongs to distributions: payments.count is a count"),
        (
            {"at": [MINUTE, MINUTE + 30], "series": [7, 7]},
            "series[1]",
            "has the same series and minute as accounts[1].series[0]",
        ),
    ],
)
def test_what_is_wrong_with_a_point_is_named(changes: dict[str, Any], field: str, message: str) -> None:
    first = account(account="m-2", series=[1], at=[MINUTE - 60], value=[1])

    assert refused(first, account(**changes)) == (Problem(3, f"accounts[1].{field}", message),)


def test_all_that_is_wrong_is_counted_and_the_source_is_looked_at_too() -> None:
    problems = refused(account(value=[1e300, -1], at=[0, MINUTE]), source="a\nb")

    assert [(problem.number, problem.field) for problem in problems] == [
        (1, "source"),
        (1, "accounts[0].value[0]"),
        (1, "accounts[0].at[0]"),
        (2, "accounts[0].value[1]"),
    ]


def test_a_body_without_points_is_refused() -> None:
    assert refused() == (Problem(1, "accounts", "must not be empty"),)


def test_a_request_has_at_most_a_hundred_thousand_points() -> None:
    columns = account(series=[1] * 100_001, at=[MINUTE] * 100_001, value=[1] * 100_001)

    message = "is one too many: a request has at most 100000 points"
    assert refused(columns) == (Problem(100_001, "", message),)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is not JSON: it ends too early, or in half a surrogate pair."),
        (b'{"source": ""]', "The body is not JSON at column 14: expected ',' or '}'."),
        (b"[]", "The body must be a JSON object."),
        (b'{"source": "\xff"}', "The body is not UTF-8 at byte 12."),
    ],
)
def test_what_is_not_json_is_refused_as_a_whole(body: bytes, message: str) -> None:
    with pytest.raises(MalformedRequest) as caught:
        columnar.parse(body)
    assert str(caught.value) == message


@st.composite
def rows(draw: st.DrawFn) -> list[tuple[tuple[str, int], int, float, int]]:
    """Points (series, minute, value, count) of which most are fit, each series and minute mostly once."""
    key = st.tuples(st.sampled_from(list(SERIES)), st.integers(-3, 3).map(lambda ahead: MINUTE + 60 * ahead))
    keys = draw(st.lists(key, min_size=1, max_size=8, unique=draw(st.booleans()) or None))
    value = st.sampled_from([0, 1, 12, 1, 2, 250.125, 1e200]) if draw(st.booleans()) else st.integers(0, 9)
    count = st.sampled_from([0, 0, 0, 1, 4]) if draw(st.booleans()) else st.just(0)
    return [(series, at, draw(value), draw(count)) for series, at in keys]


@settings(deadline=None, max_examples=300)
@given(rows(), st.booleans())
def test_columns_and_lines_say_the_same(
    found: list[tuple[tuple[str, int], int, float, int]], as_text: bool
) -> None:
    accounts = []
    for name in dict.fromkeys(series[0] for series, *_ in found):
        own = [row for row in found if row[0][0] == name]
        times = [_text(at) if as_text else at + 59 for _, at, *_ in own]
        columns = {"series": [row[0][1] for row in own], "value": [row[2] for row in own]}
        accounts.append({"account": name, "at": times, "count": [row[3] for row in own]} | columns)
    lines = [_line(series, at, value, count) for series, at, value, count in found]
    known = Slots()
    decoder = ndjson.Decoder(known)

    in_columns = _outcome(known, lambda: decode(known, {"source": "s", "accounts": accounts}))
    assert in_columns == _outcome(known, lambda: decoder.decode(b"\n".join(lines), **BOUNDS))


def _text(at: int) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat()


def _line(series: tuple[str, int], at: int, value: float, count: int) -> bytes:
    metric, labels = SERIES[series]
    fields = {"account": series[0], "metric": metric, "labels": labels, "source": "s"}
    return json.dumps(fields | {"at": _text(at), "value": value, "count": count or None}).encode()


def _outcome(known: Slots, decoded: Any) -> object:
    """The rows in an order of their own, or None if they are refused."""
    try:
        found = decoded()
    except PointsRejected:
        return None
    buckets = sketches.counts(found.sketches)
    median = np.nan_to_num(sketches.quantiles(found.sketches, [0.5])[:, 0])
    columns = (found.slot, found.at, found.value, found.count, found.mode, found.start, found.time)
    return sorted(zip(*(column.tolist() for column in (*columns, buckets, median)), strict=True))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=6), st.integers(0, 200), st.integers(0, 9))
def test_any_bytes_give_points_or_a_refusal(noise: bytes, place: int, cut: int) -> None:
    body = json.dumps({"source": "é", "accounts": [account(count=[0, 0])]}).encode()
    for sent in (body[:place] + noise + body[place + cut :], body[:place], noise):
        with suppress(PointsRejected, MalformedRequest):
            assert len(decode(Slots(), sent))


def test_series_to_be_registered_are_named_canonically() -> None:
    labels = {"partner": "visa", "outcome": "approved", "code": ""}
    body = {"series": [{"account": "m-1", "metric": "payments.count", "labels": labels}]}
    body["series"].append({"account": "m-1", "metric": "queue.depth"})

    assert columnar.parse_series(json.dumps(body).encode()) == [
        ("m-1", "payments.count", (("outcome", "approved"), ("partner", "visa"))),
        ("m-1", "queue.depth", ()),
    ]


@pytest.mark.parametrize(
    ("series", "field", "message"),
    [
        ({"account": "m-1"}, "series[1].metric", "is missing"),
        ({"account": "", "metric": "a"}, "series[1].account", "must not be empty"),
        ({"account": "a", "metric": 1}, "series[1].metric", "must be text"),
        ({"account": "a", "metric": "b", "labels": []}, "series[1].labels", "must be an object of texts"),
        ({"account": "a", "metric": "b", "labels": {"c": 1}}, "series[1].labels.c", "must be text"),
        (
            {"account": "a", "metric": "approval_rate"},
            "series[1].metric",
            "is a rate: rates are derived from counts; send payments.count",
        ),
        (
            {"account": "a", "metric": "b", "unit": "1"},
            "series[1].unit",
            "is not a field; the fields are account, metric, labels",
        ),
        ([], "series[1]", "must be an object"),
    ],
)
def test_what_is_wrong_with_a_series_is_named(series: object, field: str, message: str) -> None:
    body = {"series": [{"account": "m-1", "metric": "queue.depth"}, series]}
    with pytest.raises(PointsRejected) as caught:
        columnar.parse_series(json.dumps(body).encode())
    number = 2 if field.startswith(("series[1].account", "series[1].labels.")) or "rate" in message else 1
    assert caught.value.problems == (Problem(number, field, message),)


@pytest.mark.parametrize(("size", "message"), [(0, "must not be empty"), (10_001, "must be at most 10000")])
def test_one_to_ten_thousand_series_are_registered_at_once(size: int, message: str) -> None:
    body = {"series": [{"account": "m-1", "metric": "queue.depth"}] * size}
    with pytest.raises(PointsRejected, match=message):
        columnar.parse_series(json.dumps(body).encode())


def test_labels_are_not_nested_without_end() -> None:
    with pytest.raises(MalformedRequest, match="is nested too deeply"):
        columnar.parse_series(b'{"series": [{"labels": {"a": ' + b"[" * 100_000)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("", "must not be empty"),
        ("a\0", "must not hold control characters"),
        ("a" * 201, "must have at most 200 characters"),
    ],
)
def test_an_account_that_cannot_be_one_is_refused_before_it_is_looked_for(name: str, told: str) -> None:
    body = json.dumps({"accounts": [account(), account(account=name)]}).encode()
    with pytest.raises(PointsRejected) as caught:
        columnar.parse(body)
    assert caught.value.problems == (Problem(1, "accounts[1].account", told),)


def test_a_body_has_only_so_many_accounts() -> None:
    [problem] = refused(*[account()] * 1_001)
    assert problem == Problem(1, "accounts", "must be at most 1000")


def test_a_body_of_too_many_objects_is_not_read() -> None:
    with pytest.raises(MalformedRequest, match="holds too many objects: send it in parts"):
        columnar.parse(b'{"accounts": [' + b"{}," * 400_000 + b"{}]}")
