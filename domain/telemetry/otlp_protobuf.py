"""OTLP metrics requests in protobuf at the speed of the wire; what is new is read plainly, once."""

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    ExponentialHistogramDataPoint,
    HistogramDataPoint,
    NumberDataPoint,
    SummaryDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from domain.telemetry import (
    otlp_plain,
    otlp_streams,
    wire_buckets,
    wire_fields,
    wire_grammar,
    wire_parts,
    wire_points,
    wire_structure,
)
from domain.telemetry.interning import MISSING, Bytes, Interned
from domain.telemetry.otlp_attributes import MAX_NEW, Refused
from domain.telemetry.otlp_rows import Sent, require_few
from domain.telemetry.otlp_streams import SHAPES, Header, Owner, Stream, Streams
from domain.telemetry.points import MalformedRequest
from domain.telemetry.slots import Slots
from domain.telemetry.wire_buckets import Buckets
from domain.telemetry.wire_points import ODD, PLAIN, Points, Room
from domain.telemetry.wire_structure import MALFORMED, RESOURCE, SCOPE, UNUSUAL, Structure

Ints = NDArray[np.int64]

_MAX_STREAMS = 1 << 16
_MAX_BYTES = 1 << 26  # of the texts of streams
_MAX_MESSAGES = 1_000_000  # in a body of which all are to be made
_FIRST_ROOM = 1 << 10  # data points, and buckets
_MESSAGES: dict[str, type[Message]] = {
    "gauge": NumberDataPoint,
    "sum": NumberDataPoint,
    "histogram": HistogramDataPoint,
    "exponential_histogram": ExponentialHistogramDataPoint,
    "summary": SummaryDataPoint,
}


class Reader:
    """Reads bodies, one at a time, and remembers the streams and slots of what it has read.

    What it remembers is bounded: where that is too much it begins anew.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._found = wire_structure.structure(_FIRST_ROOM)
        kept = wire_buckets.room(_FIRST_ROOM)
        self._room = Room(wire_structure.grammar(), wire_fields.room(), kept)
        self._parts = wire_parts.grammar(ExportMetricsServiceRequest.DESCRIPTOR)
        self._forget()

    def _forget(self) -> None:
        self._streams = Streams()
        self._size = 0
        self._owners: list[Owner] = []
        self._owner_numbers = Interned(entries=_MAX_STREAMS)
        self._headers = Interned(entries=_MAX_STREAMS)
        self._known = Interned(entries=1 << 19, size=1 << 26)

    def read(self, body: bytes) -> tuple[Sent, Streams]:
        """The data points of a body, and the streams that their numbers are of. Raises MalformedRequest."""
        if len(self._streams) >= _MAX_STREAMS or self._size >= _MAX_BYTES:
            self._forget()
        content = np.frombuffer(body, np.uint8)
        if self._walk(content) == UNUSUAL:
            return self._plainly(body)
        return self._points(content, wire_structure.filled(self._found)), self._streams

    def _walk(self, body: Bytes) -> int:
        """Note the structure of a body; twice if there was no room for it."""
        state = wire_structure.outline(body, self._room.grammar, self._found)
        if state == MALFORMED:
            raise _malformed()
        size = wire_structure.size(self._found)
        require_few(data_points=size)
        if size < len(self._found.points) or state == UNUSUAL:
            return state
        self._found = wire_structure.structure(2 * size)
        return self._walk(body)

    def _plainly(self, body: bytes) -> tuple[Sent, Streams]:
        streams = Streams()
        if wire_parts.count(body, self._parts, most=_MAX_MESSAGES) > _MAX_MESSAGES:
            raise MalformedRequest(f"The body has more than {_MAX_MESSAGES} parts: send it in several.")
        try:
            request = ExportMetricsServiceRequest.FromString(body)
        except DecodeError:
            raise _malformed() from None
        return otlp_plain.read(request, streams, self._slots), streams

    def _points(self, body: Bytes, found: Structure) -> Sent:
        numbers = self._numbers(body, found)
        sent = Sent(wire_points.points(len(found.points)), numbers[found.points[:, wire_structure.METRIC]])
        sent.buckets.append(self._read(body, found, numbers, sent.points))
        self._complete(sent, body, found)
        return sent

    def _read(self, body: Bytes, found: Structure, numbers: NDArray[np.int32], points: Points) -> Buckets:
        """Fill the points, and return their buckets; twice if there was no room for these."""
        if wire_points.read(body, found, numbers, self._known.tables, self._room, points) == MALFORMED:
            raise _malformed()
        kept, size = self._room.kept, int(self._room.kept.size[0])
        require_few(buckets=size)
        if size <= len(kept.buckets.counts):
            return wire_buckets.concat([wire_buckets.take(kept.buckets, slice(size))])
        self._room = self._room._replace(kept=wire_buckets.room(2 * size))
        return self._read(body, found, numbers, points)

    def _numbers(self, body: Bytes, found: Structure) -> NDArray[np.int32]:
        """The number of the stream of each metric."""
        numbers = np.empty(len(found.metrics), np.int32)
        owners, headers = self._owner_numbers.tables, self._headers.tables
        wire_structure.streams(body, found.metrics, owners, headers, numbers)
        met: dict[tuple[int, int], int] = {}
        missing = np.flatnonzero(numbers == MISSING)
        self._crowd_out(missing[MAX_NEW:], found, numbers)
        for row in missing[:MAX_NEW].tolist():
            metric = found.metrics[row]
            resource, scope = (self._owner(body, metric, kind, met) for kind in (RESOURCE, SCOPE))
            numbers[row] = self._number(body, metric, resource, scope)
        return numbers

    def _crowd_out(self, rows: Ints, found: Structure, numbers: NDArray[np.int32]) -> None:
        """Give metrics that are too many the number of what stands for those of their shape."""
        shapes = found.metrics[rows, wire_structure.SHAPE]
        for shape in np.unique(shapes).tolist():
            stream = otlp_streams.crowded_out(SHAPES[shape - wire_grammar.GAUGE])
            numbers[rows[shapes == shape]] = self._streams.add(stream)

    def _owner(self, body: Bytes, metric: Ints, kind: int, met: dict[tuple[int, int], int]) -> int:
        """The number of a metric's RESOURCE or SCOPE; `met` are those of this body, by kind and place."""
        span = metric[kind : kind + 2]
        begin, end = span.tolist()
        number = met.get((kind, begin), MISSING)
        if number == MISSING:
            number = self._owner_numbers.get(body, span, tag=kind)
        if number == MISSING:
            number = len(self._owners)
            self._owners.append(_owner(body[begin:end].tobytes(), kind))
            self._owner_numbers.add(body, span, number, tag=kind)
            self._size += end - begin
        met[kind, begin] = number
        return number

    def _number(self, body: Bytes, metric: Ints, resource: int, scope: int) -> int:
        """The number of a metric's stream, made on first sight."""
        texts = metric[wire_structure.NAME : wire_structure.SHAPE]
        tag = int(wire_structure.tag_of(metric, resource, scope))
        number = self._headers.get(body, texts, tag=tag)
        if number == MISSING:
            owners = self._owners[resource], self._owners[scope]
            number = self._streams.add(otlp_streams.stream(*owners, _header(body, metric)))
            self._headers.add(body, texts, number, tag=tag)
            self._size += int((texts[1::2] - texts[::2]).sum())
        return number

    def _complete(self, sent: Sent, body: Bytes, found: Structure) -> None:
        """Read one by one the points that are not plain, and find the slots of the others."""
        points = sent.points
        is_refused = self._streams.columns["is_refused"][sent.stream]
        is_open = (points.state == PLAIN) & (is_refused | (points.slot == MISSING))
        met: dict[tuple[int, bytes], int] = {}
        for i in np.flatnonzero(is_open | (points.state == ODD)).tolist():
            stream = self._streams.streams[sent.stream[i]]
            if points.state[i] == ODD:
                point = _point(body, found, i, stream)
                otlp_plain.put(sent, i, point, attributes=point.attributes, stream=stream, slots=self._slots)
            elif stream.refusal is not None:
                sent.refuse(i, stream.shown, stream.refusal)
            else:
                self._place(sent, i, body, found, met)

    def _place(
        self, sent: Sent, i: int, body: Bytes, found: Structure, met: dict[tuple[int, bytes], int]
    ) -> None:
        """Find the slot of point i, the first time from its attributes; `met` are those of this body."""
        number, span = int(sent.stream[i]), found.points[i, wire_structure.ATTRIBUTES :]
        stream = self._streams.streams[number]
        key = number, body[span[0] : span[1]].tobytes()
        try:
            if key not in met:
                sent.count_single()
                met[key] = stream.slot(_point(body, found, i, stream).attributes, self._slots)
                self._known.add(body, span, met[key], tag=number)
            sent.points.slot[i] = met[key]
        except Refused as refusal:
            sent.refuse(i, stream.shown, str(refusal))


def _point(body: Bytes, found: Structure, i: int, stream: Stream) -> Any:
    begin, end = found.points[i, wire_structure.BEGIN], found.points[i, wire_structure.END]
    return _MESSAGES[stream.shape].FromString(body[begin:end].tobytes())


def _owner(content: bytes, kind: int) -> Owner:
    message = Resource.FromString(content) if kind == RESOURCE else InstrumentationScope.FromString(content)
    return otlp_streams.owner(message.attributes)


def _header(body: Bytes, metric: Ints) -> Header:
    name, name_end, unit, unit_end = metric[wire_structure.NAME : wire_structure.SHAPE].tolist()
    return Header(
        name=body[name:name_end].tobytes().decode(),
        unit=body[unit:unit_end].tobytes().decode(),
        shape=SHAPES[metric[wire_structure.SHAPE] - wire_grammar.GAUGE],
        temporality=otlp_streams.temporality(int(metric[wire_structure.TEMPORALITY])),
        is_monotonic=bool(metric[wire_structure.MONOTONIC]),
    )


def _malformed() -> MalformedRequest:
    return MalformedRequest("The body is not an OTLP metrics request in protobuf.")
