"""The distributions of OTLP data points."""

import numpy as np
import pytest

from domain.telemetry import sketches
from domain.telemetry.sketches import Sketches
from tests.domain.otlp_requests import (
    DOORS,
    Decode,
    buckets,
    exponential,
    gauge,
    histogram,
    powers,
    request,
    rows,
    sent,
)


@pytest.fixture(params=DOORS)
def decode(request: pytest.FixtureRequest) -> Decode:
    door: Decode = request.param
    return door


def are_same(one: Sketches, other: Sketches) -> bool:
    return len(one) == len(other) and sketches.encode(one) == sketches.encode(other)


def test_buckets_with_bounds_become_sketches(decode: Decode) -> None:
    counts, bounds = [[5, 1, 0, 3], [0, 0, 2, 0]], [0.0, 10.0, 100.0]
    points = [buckets(row, bounds) for row in counts]

    decoded = decode(request(histogram("checkout.size", *points, buckets([7], []))))

    expected = sketches.of_explicit(bounds, np.array(counts))
    assert are_same(decoded.sketches, sketches.concat([expected, sketches.none(1)]))


def test_buckets_in_other_units_become_sketches_of_milliseconds(decode: Decode) -> None:
    content = request(histogram("api.latency", buckets([5, 1, 4], [0.25, 1.5]), unit="s"))

    expected = sketches.of_explicit([250.0, 1500.0], np.array([[5, 1, 4]]))
    assert are_same(decode(content).sketches, expected)


def test_exponential_buckets_become_sketches(decode: Decode) -> None:
    content = request(
        exponential("checkout.size", powers([1, 0, 2], offset=-1, scale=3, count="8", zeroCount="5")),
        exponential(
            "checkout.size", powers([1, 1, 1], offset=7, scale=-2), sent(count="2", sum=0, zeroCount="2")
        ),
    )

    expected = sketches.of_exponential(
        np.array([3, -2, 4]),
        zeros=np.array([5, 0, 2]),
        offset=np.array([-1, 7, 0]),
        ends=np.array([3, 6, 6]),
        counts=np.array([1, 0, 2, 1, 1, 1]),
    )
    assert are_same(decode(content).sketches, expected)


def test_exponential_buckets_in_other_units_move_to_where_their_middles_lie(decode: Decode) -> None:
    content = request(exponential("api.latency", powers([1, 2], offset=3, scale=4), unit="s"))

    decoded = decode(content)

    middles = 2 ** ((np.array([3, 4]) + 0.5) / 16) * 1000
    expected = sketches.of_values(middles, rows=np.array([0, 0]), n=1, counts=np.array([1, 2]))
    assert [row.value for row in rows(decoded)] == [10_000.0]
    assert are_same(decoded.sketches, expected)


def test_both_kinds_of_buckets_may_be_in_one_body(decode: Decode) -> None:
    content = request(
        exponential("api.latency", powers([2], offset=5, scale=4), unit="us"),
        histogram("checkout.size", buckets([1, 2], [8.0])),
        exponential("checkout.power", powers([3], offset=5, scale=4)),
    )

    counted = sketches.counts(decode(content).sketches)

    assert counted.tolist() == [2, 3, 3]


def test_a_latency_sent_as_a_level_is_one_observation(decode: Decode) -> None:
    decoded = decode(
        request(gauge("api.latency", sent(asDouble=2.5)), gauge("queue.depth", sent(asDouble=2.5)))
    )

    assert [row.count for row in rows(decoded)] == [1, 0]
    expected = [sketches.of_values(np.array([2.5])), sketches.none(1)]
    assert are_same(decoded.sketches, sketches.concat(expected))


def test_the_sketches_of_refused_points_are_dropped(decode: Decode) -> None:
    late = buckets([1, 2], [5.0], timeUnixNano="1")
    content = request(histogram("checkout.size", late, buckets([3, 4], [5.0])))

    decoded = decode(content)

    assert [problem.message for problem in decoded.problems] == ["at is older than points may be"]
    assert are_same(decoded.sketches, sketches.of_explicit([5.0], np.array([[3, 4]])))
