"""Builders of OTLP metrics requests, as JSON has them, and what became of them as rows."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from google.protobuf.json_format import ParseDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from domain.telemetry.decoded import Decoded
from domain.telemetry.otlp import Decoder
from domain.telemetry.points import Labels, Mode
from domain.telemetry.slots import Slots

NOW = datetime(2026, 11, 23, 10, 5, tzinfo=UTC)
OLDEST = NOW - timedelta(days=30)
MINUTE = 1_795_428_060  # 2026-11-23T10:01:00Z
CUMULATIVE, DELTA = 2, 1
ONE: dict[str, Any] = {"asInt": "1"}

SLOTS = Slots()
DECODER = Decoder(SLOTS)


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


def histogram(
    name: str, *data_points: dict[str, Any], temporality: int = DELTA, shape: str = "histogram", **fields: Any
) -> dict[str, Any]:
    return {
        "name": name,
        shape: {"aggregationTemporality": temporality, "dataPoints": list(data_points)},
    } | fields


def exponential(name: str, *data_points: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return histogram(name, *data_points, shape="exponentialHistogram", **fields)


def buckets(counts: list[int], bounds: list[Any], **fields: Any) -> dict[str, Any]:
    """A data point of a histogram whose sum is 10."""
    plain = {"count": str(sum(counts)), "sum": 10.0, "bucketCounts": counts, "explicitBounds": bounds}
    return sent(**plain | fields)


def powers(counts: list[int], *, offset: int = 0, scale: int = 0, **fields: Any) -> dict[str, Any]:
    """A data point of an exponential histogram whose sum is 10."""
    positive = {"offset": offset, "bucketCounts": [str(count) for count in counts]}
    plain = {"count": str(sum(counts)), "sum": 10.0, "scale": scale, "positive": positive}
    return sent(**plain | fields)


def request(*metrics: dict[str, Any], **resource: Any) -> dict[str, Any]:
    placed = {"vitals__account": "m-1", "service__instance__id": "pod-1"} | resource
    scope = {"scope": {"name": "checkout"}, "metrics": list(metrics)}
    of_resource = {"resource": {"attributes": attributes(**placed)}, "scopeMetrics": [scope]}
    return {"resourceMetrics": [of_resource]}


def by_protobuf(content: dict[str, Any]) -> Decoded:
    body = ParseDict(content, ExportMetricsServiceRequest()).SerializeToString()
    return DECODER.protobuf(body, at=NOW, oldest=OLDEST)


def by_json(content: dict[str, Any]) -> Decoded:
    return DECODER.json(json.dumps(content).encode(), at=NOW, oldest=OLDEST)


DOORS = (by_protobuf, by_json)
Decode = Callable[[dict[str, Any]], Decoded]


class Row(NamedTuple):
    """A row as the sender would say it; `at` is the second from MINUTE at which its minute begins."""

    account: str
    metric: str
    labels: Labels
    source: str
    at: int
    value: float
    count: int
    mode: Mode
    number: int


def is_nothing(decoded: Decoded) -> bool:
    return len(decoded) == len(decoded.sketches) == len(decoded.problems) == 0


def rows(decoded: Decoded) -> list[Row]:
    found = []
    for i in range(len(decoded)):
        account, metric, labels, _ = SLOTS.identities[decoded.slot[i]]
        source, at = decoded.sources[decoded.source[i]], int(decoded.at[i]) - MINUTE
        value, count, mode = float(decoded.value[i]), int(decoded.count[i]), Mode(decoded.mode[i])
        found.append(Row(account, metric, labels, source, at, value, count, mode, int(decoded.number[i])))
    return found


def content(decoded: Decoded, slots: Slots) -> list[Any]:
    """All that a decoded body holds, in a form that can be compared; NaN is like NaN."""
    s = decoded.sketches
    columns = (
        decoded.at,
        decoded.value,
        decoded.count,
        decoded.mode,
        decoded.start,
        decoded.time,
        decoded.number,
    )
    return [
        [slots.identities[slot][:3] for slot in decoded.slot],
        [decoded.sources[source] for source in decoded.source],
        [(column.dtype, column.tolist()) for column in columns],
        [column.tolist() for column in (s.scale, s.zeros, s.ends, s.index, s.counts)],
        decoded.problems,
    ]
