"""Pushes of a fleet as OTLP protobuf, cheaply: a body is encoded once, and then written over.

Times, values and the name of the pod take eight bytes each in the encoding. A body is encoded with marks in
their places, which occur nowhere else.
"""

import re
from collections.abc import Iterable
from itertools import groupby
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AGGREGATION_TEMPORALITY_DELTA,
    HistogramDataPoint,
    Metric,
    NumberDataPoint,
)

from benchmarks import fleet
from benchmarks.fleet import Sent

ACCOUNTS_A_BODY = 4
POINTS = ACCOUNTS_A_BODY * fleet.SERIES
"""Of one body."""
BODIES = fleet.ACCOUNTS // ACCOUNTS_A_BODY
"""So many are one push of one pod."""

_NS = 1_000_000_000
_BOUNDS = (0, 5, 10, 25, 50, 75, 100, 250, 500, 750, 1000, 2500, 5000, 7500, 10000)
_MIDDLES = np.array([0, 2, 7, 17, 37, 62, 87, 175, 375, 625, 875, 1750, 3750, 6250, 8750, 12000], np.float64)
_SHARES = np.exp(-0.5 * (np.arange(16) - 7.0) ** 2)  # most take 100 to 250 ms
_SHARES /= _SHARES.sum()

Offsets = NDArray[np.int64]

_POD = b"pod-????"
_START, _TIME, _VALUE, _COUNT, _BUCKET, _SUM = (0x7A_11_7A_11 << 32 | number for number in range(1, 7))
_SUM_AS_DOUBLE = float(np.array([_SUM], "<i8").view("<f8")[0])


class Values(NamedTuple):
    """What a body says of its series, in its order: of each sum the value, of each histogram the count."""

    sums: NDArray[np.int64]
    counts: NDArray[np.int64]


class Template:
    """The body of some accounts, ready to be written over."""

    def __init__(self, accounts: Iterable[str]) -> None:
        series = fleet.series()
        encoded = _encoded(accounts, series)
        self._content = np.frombuffer(encoded, np.uint8)
        self._pod = _places(encoded, _POD)
        self._start, self._time, self._value, self._count, self._bucket, self._sum = (
            _places(encoded, mark.to_bytes(8, "little"))
            for mark in (_START, _TIME, _VALUE, _COUNT, _BUCKET, _SUM)
        )
        means = [one.mean for one in series if not one.is_histogram]
        rates = [one.mean for one in series if one.is_histogram]
        self._means = np.resize(means, len(self._value))
        self._rates = np.resize(rates, len(self._count))[:, None] * _SHARES

    def body(
        self, pod: str, rng: np.random.Generator, *, at: float, seconds: int = fleet.PUSH_S, scale: float = 1
    ) -> tuple[bytes, Values]:
        """What `pod` (8 characters) says at epoch second `at` of the `seconds` before, drawn from `rng`.

        `scale` is how many times the usual that is.
        """
        content = self._content.copy()
        end = int(at * _NS)
        sums, buckets = rng.poisson(self._means * scale), rng.poisson(self._rates * scale)
        buckets[buckets.sum(axis=1) == 0, 7] = 1  # what observed nothing would be no point
        counts = buckets.sum(axis=1)
        content[self._pod] = np.frombuffer(pod.encode(), np.uint8)
        _write(content, self._start, np.int64(end - seconds * _NS))
        _write(content, self._time, np.int64(end))
        _write(content, self._value, sums)
        _write(content, self._count, counts)
        _write(content, self._bucket, buckets.reshape(-1))
        _write(content, self._sum, buckets @ _MIDDLES)
        return content.tobytes(), Values(sums, counts)


def templates() -> list[Template]:
    """The bodies of one push."""
    accounts = [fleet.account(number) for number in range(fleet.ACCOUNTS)]
    return [
        Template(accounts[first : first + ACCOUNTS_A_BODY])
        for first in range(0, fleet.ACCOUNTS, ACCOUNTS_A_BODY)
    ]


def _places(encoded: bytes, mark: bytes) -> Offsets:
    """(n, 8): where each byte of each occurrence lies."""
    found = [one.start() for one in re.finditer(re.escape(mark), encoded)]
    return np.array(found)[:, None] + np.arange(8)


def _write(content: NDArray[np.uint8], places: Offsets, values: Any) -> None:
    kind = "<f8" if values.dtype.kind == "f" else "<i8"
    content[places] = np.ascontiguousarray(values, kind).view(np.uint8).reshape(-1, 8)


def _encoded(accounts: Iterable[str], series: list[Sent]) -> bytes:
    request = ExportMetricsServiceRequest()
    for account in accounts:
        resource = request.resource_metrics.add()
        texts = {"service.name": "checkout", "service.instance.id": _POD.decode(), "vitals.account": account}
        resource.resource.attributes.extend(_attribute(*text) for text in texts.items())
        scope = resource.scope_metrics.add()
        for name, of_metric in groupby(series, key=lambda one: one.metric):
            _fill(scope.metrics.add(name=name), list(of_metric))
    return request.SerializeToString()


def _fill(metric: Metric, series: list[Sent]) -> None:
    if series[0].is_histogram:
        metric.unit = "ms"
        metric.histogram.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
        metric.histogram.data_points.extend(map(_histogram, series))
    else:
        metric.sum.aggregation_temporality = AGGREGATION_TEMPORALITY_DELTA
        metric.sum.is_monotonic = True
        metric.sum.data_points.extend(map(_number, series))


def _number(one: Sent) -> NumberDataPoint:
    return NumberDataPoint(
        attributes=[_attribute(*label) for label in one.labels.items()],
        start_time_unix_nano=_START,
        time_unix_nano=_TIME,
        as_int=_VALUE,
    )


def _histogram(one: Sent) -> HistogramDataPoint:
    return HistogramDataPoint(
        attributes=[_attribute(*label) for label in one.labels.items()],
        start_time_unix_nano=_START,
        time_unix_nano=_TIME,
        count=_COUNT,
        sum=_SUM_AS_DOUBLE,
        bucket_counts=[_BUCKET] * (len(_BOUNDS) + 1),
        explicit_bounds=_BOUNDS,
    )


def _attribute(key: str, value: str) -> KeyValue:
    return KeyValue(key=key, value=AnyValue(string_value=value))
