"""OTLP metrics requests of all sorts, good and hostile, and their bytes in any order that the wire allows."""

from collections.abc import Sequence
from random import Random
from typing import Any

from google.protobuf import message_factory
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

_MINUTE_NS = 1_795_428_060 * 10**9
_SHAPES = ("gauge", "sum", "histogram", "exponential_histogram", "summary")


class Maker:
    """Makes requests; about one choice in `hostility` is a bad one."""

    def __init__(self, random: Random, *, hostility: int = 12) -> None:
        self._random, self._hostility = random, hostility

    def of(self, good: Sequence[Any], *bad: Any) -> Any:
        is_bad = bad and self._random.randrange(self._hostility) == 0
        return self._random.choice(bad if is_bad else good)

    def few(self, most: int) -> range:
        return range(self._random.randrange(most + 1))

    def request(self) -> ExportMetricsServiceRequest:
        request = ExportMetricsServiceRequest()
        for _ in self.few(2):
            of_resource = request.resource_metrics.add()
            attributes = of_resource.resource.attributes
            self._attribute(attributes, "vitals.account", self.of(["m-1"], "", "m" * 201, None))
            self._attribute(attributes, "service.instance.id", self.of(["pod-1", "pod-2"], "", "pod\n"))
            for _ in self.few(2):
                of_scope = of_resource.scope_metrics.add()
                of_scope.scope.name = self.of(["", "checkout"])
                self._attributes(of_scope.scope.attributes, self.few(1))
                for _ in self.few(3):
                    self._metric(of_scope.metrics.add())
        return request

    def _attribute(self, attributes: Any, key: str, value: Any) -> None:
        added = attributes.add(key=key)
        fields = {str: "string_value", bool: "bool_value", int: "int_value", float: "double_value"}
        if type(value) in fields:
            setattr(added.value, fields[type(value)], value)
        elif value is list:
            added.value.array_value.values.add().string_value = "nested"

    def _attributes(self, attributes: Any, times: range) -> None:
        for _ in times:
            key = self.of(
                ["method", "issuer", "vitals.partner"], "partner", "vitals.x", "a b", "", "vitals.account"
            )
            self._attribute(attributes, key, self.of(["card", "ü", 3, 0.5, True], "", None, list, "\n"))

    def _metric(self, metric: Any) -> None:
        metric.name = self.of(
            ["api.requests", "api.latency", "size"], "payments.count", "a b", "", "error_rate"
        )
        metric.unit, metric.description = self.of(["", "ms", "s", "us"], "By"), self.of(["", "…"])
        shape = self.of(_SHAPES[:4], "summary", None)
        if shape is None:
            return
        data = getattr(metric, shape)
        if shape not in ("gauge", "summary"):
            data.aggregation_temporality = self.of([1, 2], 0, 3)
        if shape == "sum":
            data.is_monotonic = self.of([True], False)
        for _ in self.few(4):
            self._point(data.data_points.add(), shape)

    def _point(self, point: Any, shape: str) -> None:
        self._attributes(point.attributes, self.few(3))
        point.time_unix_nano = self.of([_MINUTE_NS, _MINUTE_NS + 7 * 10**10], 0, 1, 2**63, 2**64 - 1)
        point.start_time_unix_nano = self.of([0, _MINUTE_NS - 10**10], _MINUTE_NS + 10**11, 2**64 - 1)
        point.flags = self.of([0], 1, 2, 3)
        if shape in ("gauge", "sum"):
            self._number(point)
        elif shape == "summary":
            point.quantile_values.add(quantile=0.5, value=1)
        else:
            self._distribution(point, shape)
        if shape != "summary" and self.of([False], True):
            point.exemplars.add(as_int=1, span_id=b"12345678")

    def _number(self, point: Any) -> None:
        if self.of([True, False]):
            point.as_int = self.of([0, 1, 17], -3, 2**53, 2**62, -(2**63))
        elif self.of([True], False):
            point.as_double = self._double()

    def _double(self) -> Any:
        odd = (-1.0, float("nan"), float("inf"), -float("inf"), 1e200, 1e201, 1e308, 5e-324)
        return self.of([0.0, 3.0, 2.5, 300.0], *odd)

    def _counts(self) -> list[int]:
        return [self.of([0, 1, 2, 9], 10**9, 2**63, 2**64 - 1) for _ in self.few(4)]

    def _distribution(self, point: Any, shape: str) -> None:
        if self.of([True], False):
            point.sum = self._double()
        counts = self._counts()
        total = sum(counts)
        if shape == "histogram":
            bounds = [
                self.of([0.0, 5.0, 10.0, 250.0], *map(float, ("nan", "inf", "-inf", "-1")))
                for _ in counts[1:]
            ]
            point.bucket_counts.extend(counts)
            point.explicit_bounds.extend(self.of([sorted(set(bounds))], bounds))
            if self.of([True], False):
                point.bucket_counts[:] = counts[: len(point.explicit_bounds) + 1]
                total = sum(point.bucket_counts)
        else:
            total += self._powers(point, counts)
        point.count = self.of([total % 2**64], 1, 2**64 - 1)

    def _powers(self, point: Any, counts: list[int]) -> int:
        point.scale = self.of([0, 3, 4, 10, -2], 20, -10, 21, -11, -(2**31))
        point.zero_count = self.of([0, 2], 2**64 - 1)
        point.positive.offset = self.of([0, -5, 7], 2**31 - 1, -(2**31))
        point.positive.bucket_counts.extend(counts)
        point.negative.bucket_counts.extend(self.of([[]], [0], [1]))
        return int(point.zero_count)


def in_any_order(message: Message, random: Random, *, in_two: bool = False) -> bytes:
    """The bytes of a message whose fields, at all levels, stand in any order, packed or not.

    With `in_two` messages that are there once come in two parts, to be merged.
    """
    return b"".join(_parts(message, random, in_two))


def _parts(message: Message, random: Random, in_two: bool) -> list[bytes]:
    parts = []
    for field, value in message.ListFields():
        if field.message_type is None:
            parts += _scalars(field, value, random)
        else:
            parts += _messages(field, value, random, in_two)
    random.shuffle(parts)
    return parts


def _messages(field: FieldDescriptor, value: Any, random: Random, in_two: bool) -> list[bytes]:
    contents = []
    for one in value if field.is_repeated else [value]:
        inner = _parts(one, random, in_two)
        cut = random.randrange(len(inner) + 1) if in_two and not field.is_repeated else 0
        contents += [inner[:cut], inner[cut:]] if cut else [inner]
    joined = [b"".join(content) for content in contents]
    return [_varint(field.number << 3 | 2) + _varint(len(content)) + content for content in joined]


def _scalars(field: FieldDescriptor, value: Any, random: Random) -> list[bytes]:
    if not field.is_repeated or field.type == field.TYPE_STRING:
        return [_alone(field, value)]
    cut = random.randrange(len(value) + 1)
    parts = [_alone(field, value[:cut])] + [_unpacked(field, one) for one in value[cut:]]
    return random.choice([parts, [_alone(field, value)]])


def _alone(field: FieldDescriptor, value: Any) -> bytes:
    message = message_factory.GetMessageClass(field.containing_type)(**{field.name: value})
    return message.SerializeToString()


def _unpacked(field: FieldDescriptor, value: Any) -> bytes:
    packed = _alone(field, [value])
    encoding = 0 if field.type == field.TYPE_UINT64 else 1
    return _varint(field.number << 3 | encoding) + packed[2:]


def _varint(value: int) -> bytes:
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])
