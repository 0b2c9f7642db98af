"""OTLP metrics requests, protobuf and JSON: good data points become points, others are refused singly.

Increments (delta sums, histograms) add up, levels replace. Points of one series, source and minute
within a request become one: increments their sum, levels the latest.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)

from domain.telemetry import otlp_json, points
from domain.telemetry.points import (
    MAX_AHEAD_S,
    MAX_PROBLEMS,
    METRICS,
    Kind,
    MalformedRequest,
    Mode,
    Point,
    Problem,
)

_DELTA = (1, "AGGREGATION_TEMPORALITY_DELTA")
_NO_RECORDED_VALUE = 1
_NANOSECONDS = 1_000_000_000
_PLACES = ("vitals.account", "vitals.service", "vitals.partner")
_MS = {"": 1.0, "ms": 1.0, "s": 1e3, "us": 1e-3, "ns": 1e-6}

# A generated protobuf class or its twin in otlp_json: the same attributes either way.
Message = Any
Texts = dict[str, str | None]


class Decoded(NamedTuple):
    """Points that may be kept, and the data points refused."""

    points: list[Point]
    rejected: list[Problem]


class _Refused(Exception):
    """One data point cannot be kept; the text continues the name of its metric."""


def decode_protobuf(body: bytes, *, at: datetime, oldest: datetime) -> Decoded:
    """Read a binary request; `at` is the present. Raises MalformedRequest."""
    try:
        request = ExportMetricsServiceRequest.FromString(body)
    except DecodeError:
        raise MalformedRequest("The body is not an OTLP metrics request in protobuf.") from None
    return _read(request, at=at, oldest=oldest)


def decode_json(body: bytes, *, at: datetime, oldest: datetime) -> Decoded:
    """Read a JSON request; `at` is the present. Raises MalformedRequest."""
    try:
        request = otlp_json.decoder.decode(body.decode())
    except RecursionError:
        raise MalformedRequest("The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise MalformedRequest("The body is not UTF-8.") from None
    except msgspec.DecodeError as error:
        text = f"The body is not an OTLP metrics request in JSON: {error}."
        raise MalformedRequest(text) from None
    return _read(request, at=at, oldest=oldest)


def reply(rejected: Sequence[Problem], *, as_json: bool) -> bytes:
    """The body of the 200 that answers a request: empty, or how many data points were refused."""
    response = ExportMetricsServiceResponse()
    if rejected:
        response.partial_success.CopyFrom(_partial_success(rejected))
    if as_json:
        return MessageToJson(response, indent=None).encode()
    return response.SerializeToString()


def _partial_success(rejected: Sequence[Problem]) -> ExportMetricsPartialSuccess:
    texts = [
        f"data point {problem.number}: {problem.field} {problem.message}"
        for problem in rejected[:MAX_PROBLEMS]
    ]
    return ExportMetricsPartialSuccess(
        rejected_data_points=sum(problem.parts for problem in rejected),
        error_message="; ".join(texts),
    )


def _read(request: Message, *, at: datetime, oldest: datetime) -> Decoded:
    reading = _Reading(oldest=int(oldest.timestamp()), newest=int(at.timestamp()) + MAX_AHEAD_S)
    for of_resource in request.resource_metrics or ():
        resource = _attributes(of_resource.resource)
        for of_scope in of_resource.scope_metrics or ():
            place = _placing(resource) | _placing(_attributes(of_scope.scope))
            for metric in of_scope.metrics or ():
                reading.read_metric(metric, place=place, source=_source(resource))
    return Decoded(list(reading.points.values()), reading.rejected)


class _Reading:
    """What has been read of one request; data points are numbered from 1 in their order."""

    def __init__(self, *, oldest: int, newest: int) -> None:
        self.bounds = {"oldest": oldest, "newest": newest}
        self.number = 0
        self.points: dict[object, Point] = {}
        self.times: dict[object, int] = {}
        self.rejected: list[Problem] = []

    def read_metric(self, metric: Message, *, place: Texts, source: str) -> None:
        shape = metric.WhichOneof("data")
        if shape is None:
            return
        data = getattr(metric, shape)
        for sent in data.data_points or ():
            self.number += 1
            if _is_empty(sent, shape=shape):
                continue
            try:
                value, count, mode = _measure(sent, metric=metric, shape=shape, data=data)
                point = Point(
                    account=_account(texts := place | _texts(sent.attributes or ())),
                    metric=metric.name or "",
                    at=points.minute((sent.time_unix_nano or 0) // _NANOSECONDS),
                    value=value,
                    count=points.observations(metric.name or "", count),
                    labels=_labels(texts),
                    source=source,
                    mode=mode,
                    number=self.number,
                )
                self._keep(point, time=sent.time_unix_nano or 0)
            except _Refused as refusal:
                name = (metric.name or "a metric without a name")[:80]
                self.rejected.append(Problem(self.number, name, str(refusal)))

    def _keep(self, point: Point, *, time: int) -> None:
        if not time:
            raise _Refused("has no time")
        for field, message in points.flaws(point, **self.bounds):
            raise _Refused(f"{field} {message}")
        earlier = self.points.get(point.key)
        self.points[point.key] = point if earlier is None else self._joined(earlier, point, time=time)
        self.times[point.key] = max(time, self.times.get(point.key, 0))

    def _joined(self, earlier: Point, point: Point, *, time: int) -> Point:
        """One point of two; of levels sent for the same instant the last in the request."""
        if (earlier.mode, earlier.count is None) != (point.mode, point.count is None):
            raise _Refused("has values of different shapes in one minute")
        parts = earlier.parts + point.parts
        if point.mode is Mode.ADD:
            total, count = earlier.total + point.total, None
            if earlier.count is not None and point.count is not None:
                count = earlier.count + point.count
                total /= count
            return msgspec.structs.replace(earlier, value=total, count=count, parts=parts)
        latest = point if time >= self.times[point.key] else earlier
        return msgspec.structs.replace(latest, number=earlier.number, parts=parts)


def _is_empty(sent: Message, *, shape: str) -> bool:
    """Whether nothing was measured: there is nothing to keep, and nothing is wrong."""
    if (sent.flags or 0) & _NO_RECORDED_VALUE:
        return True
    return shape == "histogram" and not sent.count


def _measure(sent: Message, *, metric: Message, shape: str, data: Message) -> tuple[float, int | None, Mode]:
    """Value (a mean where there is a count), number of observations, mode."""
    understood = METRICS.get(metric.name or "")
    is_latency = understood is not None and understood.kind is Kind.DISTRIBUTION
    scale = _scale(metric.unit or "") if is_latency else 1.0
    if shape == "gauge":
        return _number(sent) * scale, None, Mode.REPLACE
    if shape == "sum" and not is_latency:
        return _number(sent), None, _mode_of_sum(data, is_understood=understood is not None)
    if shape == "histogram":
        _require_delta(data)
        return _mean(sent) * scale, sent.count, Mode.ADD
    kept = "a histogram with explicit bounds" if shape != "sum" else "a histogram"
    raise _Refused(f"is sent as {shape.replace('_', ' ')}, which is not kept: send {kept}")


def _mode_of_sum(data: Message, *, is_understood: bool) -> Mode:
    """A sum that may fall is a level when it is cumulative; counts and amounts only ever grow."""
    if data.is_monotonic:
        _require_delta(data)
        return Mode.ADD
    if is_understood or data.aggregation_temporality in _DELTA:
        raise _Refused("is a sum that is not monotonic: send a monotonic delta sum or a gauge")
    return Mode.REPLACE


def _require_delta(data: Message) -> None:
    if data.aggregation_temporality not in _DELTA:
        setting = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=delta"
        raise _Refused(f"needs delta temporality ({setting})")


def _number(sent: Message) -> float:
    field = sent.WhichOneof("value")
    if field is None:
        raise _Refused("has no value")
    return float(getattr(sent, field))


def _mean(sent: Message) -> float:
    if sent.WhichOneof("_sum") is None:
        raise _Refused("is a histogram without its sum")
    return float(sent.sum) / int(sent.count)


def _scale(unit: str) -> float:
    if unit not in _MS:
        raise _Refused(f"must be in ms (or s, us, ns), not in {unit[:20]}")
    return _MS[unit]


def _attributes(owner: Message) -> Texts:
    return {} if owner is None else _texts(owner.attributes or ())


def _texts(attributes: Iterable[Message]) -> Texts:
    """Attributes as text by key; None for lists, maps and bytes, which have no plain form."""
    return {attribute.key or "": _text(attribute.value) for attribute in attributes}


def _text(value: Message) -> str | None:
    field = None if value is None else value.WhichOneof("value")
    if field == "string_value":
        return str(value.string_value)
    if field == "bool_value":
        return "true" if value.bool_value else "false"
    if field in ("int_value", "double_value"):
        return str(getattr(value, field))
    return "" if field is None else None


def _placing(texts: Texts) -> Texts:
    return {key: texts[key] for key in _PLACES if key in texts}


def _account(texts: Texts) -> str:
    account = texts.get("vitals.account")
    if not account:
        raise _Refused("has no vitals.account attribute (text) on its resource, scope or point")
    return account


def _labels(texts: Texts) -> points.Labels:
    """The point's own attributes, and its service and partner under those names."""
    plain: dict[str, str] = {}
    for key, text in texts.items():
        name = key.removeprefix("vitals.")
        if key == "vitals.account":
            continue
        if key.startswith("vitals.") and key not in _PLACES:
            raise _Refused(f"has the unknown attribute {key[:64]}; known are {', '.join(_PLACES)}")
        if text is None:
            raise _Refused(f"labels.{name[:64]} must be text, a boolean or a number")
        if plain.get(name, text) != text:
            raise _Refused(f"has two values for {name}, {plain[name][:64]} and {text[:64]}")
        plain[name] = text
    return points.labels(plain)


def _source(resource: Texts) -> str:
    """The instance that sends, or its service and host where it does not name itself."""
    if instance := resource.get("service.instance.id"):
        return instance
    return "/".join(filter(None, (resource.get("service.name"), resource.get("host.name"))))
