"""Our decoder of OTLP protobuf against a walk over the generated classes, of the same bodies.

The walk is what a careful developer writes: `FromString`, and of each point its attributes as a dict, its
time and its value (of a histogram the sum and the count), appended to lists. It looks up no series and
checks nothing, which ours does; ours has seen the attributes before, as of a sender that pushes each minute.
"""

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from domain.telemetry.otlp import Decoder
from domain.telemetry.slots import Slots

_ROUNDS = 7
_OLDEST = timedelta(days=90)


class Rates(NamedTuple):
    """Points a second, medians of alternating rounds."""

    ours: float
    walk: float


@dataclass(frozen=True)
class Walked:
    """A point an element."""

    metric: list[str] = field(default_factory=list)
    attributes: list[dict[str, str]] = field(default_factory=list)
    time: list[int] = field(default_factory=list)
    value: list[float] = field(default_factory=list)
    count: list[int] = field(default_factory=list)


def measure(bodies: Sequence[bytes]) -> Rates:
    """Raises AssertionError where the two do not find the same points."""
    decoder, at = Decoder(Slots()), datetime.now(UTC)

    def ours(body: bytes) -> int:
        return len(decoder.protobuf(body, at=at, oldest=at - _OLDEST))

    for body in bodies:
        assert ours(body) == len(walk(body).time)
    rounds = [(_rate(ours, bodies), _rate(lambda body: len(walk(body).time), bodies)) for _ in range(_ROUNDS)]
    return Rates(*map(statistics.median, zip(*rounds, strict=True)))


def _rate(decode: Callable[[bytes], int], bodies: Sequence[bytes]) -> float:
    began = time.perf_counter()
    points = sum(map(decode, bodies))
    return points / (time.perf_counter() - began)


def walk(body: bytes) -> Walked:
    """All that the points say, with the attributes of their resource."""
    found = Walked()
    for resource_metrics in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        resource = {one.key: one.value.string_value for one in resource_metrics.resource.attributes}
        for scope_metrics in resource_metrics.scope_metrics:
            for metric in scope_metrics.metrics:
                _walk(metric, resource, found)
    return found


def _walk(metric: Metric, resource: dict[str, str], found: Walked) -> None:
    shape: Any = metric.WhichOneof("data")
    is_histogram = shape == "histogram"
    for point in getattr(metric, shape).data_points:
        found.metric.append(metric.name)
        found.attributes.append(resource | {one.key: one.value.string_value for one in point.attributes})
        found.time.append(point.time_unix_nano)
        if is_histogram:
            found.value.append(point.sum)
            found.count.append(point.count)
        else:
            found.value.append(point.as_int if point.HasField("as_int") else point.as_double)
            found.count.append(0)
