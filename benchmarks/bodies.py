"""One stream of simulated points as request bodies, as OTLP exporters and plain clients write them."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby, islice

import msgspec
from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_DELTA,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)

from ops.replaying import parcels
from ops.simulation import specification, stream
from ops.simulation.stream import Point

SIZE = 2_000
_SEED = 1
_SECOND = 1_000_000_000
# An exporter's default buckets; their number, not what is in them, is what costs.
_BOUNDS = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000)

Timed = tuple[datetime, Point]
Identity = tuple[str, str, tuple[tuple[str, str], ...]]
"""A series: its account, metric and labels."""


@dataclass(frozen=True)
class Format:
    """How points are written, where they are sent, and what is answered when all of them were taken."""

    name: str
    path: str
    content_type: str
    write: Callable[[Sequence[Timed]], bytes]
    answer: bytes


def batches(count: int, *, start: datetime) -> list[list[Timed]]:
    """So many bodies' points: all that the simulated platform sends from `start` on, SIZE a body."""
    points = _points(start)
    return [list(islice(points, SIZE)) for _ in range(count)]


def _points(start: datetime) -> Iterator[Timed]:
    for at, points in stream.simulate(specification.load(), _SEED, start=start):
        for one in points:
            yield at, one


def identity(point: Point) -> Identity:
    return point.account, point.metric, tuple(point.labels.items())


def ndjson(points: Sequence[Timed]) -> bytes:
    return b"\n".join(
        parcels.point(
            account=one.account,
            metric=one.metric,
            at=at,
            value=one.value,
            labels=one.labels,
            source="benchmark",
            count=one.count,
        )
        for at, one in points
    )


def otlp(points: Sequence[Timed]) -> ExportMetricsServiceRequest:
    """A resource an account, a metric with all its data points: delta sums, and histograms of latency."""
    request = ExportMetricsServiceRequest()
    by_metric = sorted(points, key=lambda timed: (timed[1].account, timed[1].metric))
    for account, of_account in groupby(by_metric, key=lambda timed: timed[1].account):
        resource = request.resource_metrics.add()
        resource.resource.attributes.extend(
            [_attribute("service.name", "benchmark"), _attribute("vitals.account", account)]
        )
        scope = resource.scope_metrics.add()
        for name, of_metric in groupby(of_account, key=lambda timed: timed[1].metric):
            _fill(scope.metrics.add(name=name), list(of_metric))
    return request


def otlp_protobuf(points: Sequence[Timed]) -> bytes:
    return otlp(points).SerializeToString()


def otlp_json(points: Sequence[Timed]) -> bytes:
    return MessageToJson(otlp(points), indent=None, use_integers_for_enums=True).encode()


def columnar(numbers: Mapping[Identity, int]) -> Format:
    """Columns of JSON, for series that have these numbers within their accounts."""
    return Format(
        "columnar", parcels.POINTS, "application/json", lambda points: _columns(points, numbers), _ALL
    )


def _columns(points: Sequence[Timed], numbers: Mapping[Identity, int]) -> bytes:
    by_account = sorted(points, key=lambda timed: timed[1].account)
    accounts = []
    for account, group in groupby(by_account, key=lambda timed: timed[1].account):
        of_account = list(group)
        accounts.append(
            {
                "account": account,
                "series": [numbers[identity(one)] for _, one in of_account],
                "at": [int(at.timestamp()) for at, _ in of_account],
                "value": [one.value for _, one in of_account],
                "count": [one.count or 0 for _, one in of_account],
            }
        )
    return msgspec.json.encode({"source": "benchmark", "accounts": accounts})


def registration(series: Sequence[Identity]) -> bytes:
    """The body that asks for the numbers of series."""
    named = ({"account": a, "metric": m, "labels": dict(labels)} for a, m, labels in series)
    return msgspec.json.encode({"series": list(named)})


def _fill(metric: Metric, points: Sequence[Timed]) -> None:
    if points[0][1].count is None:
        metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
        metric.sum.is_monotonic = True
        metric.sum.data_points.extend(_number(at, one) for at, one in points)
    else:
        metric.unit = "ms"
        metric.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
        metric.histogram.data_points.extend(_histogram(at, one) for at, one in points)


def _number(at: datetime, one: Point) -> NumberDataPoint:
    begin = int(at.timestamp()) * _SECOND
    return NumberDataPoint(
        attributes=[_attribute(*label) for label in one.labels.items()],
        start_time_unix_nano=begin,
        time_unix_nano=begin + 59 * _SECOND,
        as_int=int(one.value),
    )


def _histogram(at: datetime, one: Point) -> HistogramDataPoint:
    begin, count = int(at.timestamp()) * _SECOND, one.count or 0
    buckets = [0] * (len(_BOUNDS) + 1)
    buckets[_BOUNDS.index(250)] = count
    return HistogramDataPoint(
        attributes=[_attribute(*label) for label in one.labels.items()],
        start_time_unix_nano=begin,
        time_unix_nano=begin + 59 * _SECOND,
        count=count,
        sum=one.value * count,
        bucket_counts=buckets,
        explicit_bounds=_BOUNDS,
    )


def _attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))


_ALL = b'{"accepted": %d}' % SIZE
NDJSON = Format("ndjson", parcels.POINTS, "application/x-ndjson", ndjson, _ALL)
FORMATS = (
    Format("otlp_protobuf", "/v1/metrics", "application/x-protobuf", otlp_protobuf, b""),
    Format("otlp_json", "/v1/metrics", "application/json", otlp_json, b"{}"),
    NDJSON,
)
