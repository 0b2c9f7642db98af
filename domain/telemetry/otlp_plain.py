"""The plain reading of an OTLP metrics request, message by message: what the faster ones must agree with."""

from collections.abc import Iterator, Sequence
from itertools import islice

import numpy as np

from domain.telemetry import otlp_points, otlp_streams, wire_points
from domain.telemetry.otlp_attributes import MAX_NEW, Message, Refused
from domain.telemetry.otlp_rows import MAX_DATA_POINTS, Sent, require_few
from domain.telemetry.otlp_streams import Header, Owner, Stream, Streams
from domain.telemetry.slots import Slots


def read(request: Message, streams: Streams, slots: Slots) -> Sent:
    """The data points of a request of the generated classes; their streams are added to `streams`.

    Raises MalformedRequest where there are too many.
    """
    found = list(islice(_points(request, streams), MAX_DATA_POINTS + 1))
    require_few(data_points=len(found))
    sent = Sent(wire_points.points(len(found)), np.array([number for number, _ in found], np.int32))
    for i, (number, point) in enumerate(found):
        stream = streams.streams[number]
        put(sent, i, point, attributes=point.attributes, stream=stream, slots=slots)
    return sent


def put(
    sent: Sent, i: int, point: Message, *, attributes: Sequence[Message], stream: Stream, slots: Slots
) -> None:
    """Read data point i by itself."""
    try:
        sent.count_single()
        reading = otlp_points.read(point, stream)
        if reading is None:
            sent.points.state[i] = wire_points.EMPTY
        else:
            sent.put(i, stream.slot(attributes, slots), reading)
    except Refused as refusal:
        sent.refuse(i, stream.shown, str(refusal))


def _points(request: Message, streams: Streams) -> Iterator[tuple[int, Message]]:
    """All data points, with the numbers of their streams."""
    for of_resource in request.resource_metrics:
        resource = otlp_streams.owner(of_resource.resource.attributes)
        for of_scope in of_resource.scope_metrics:
            scope = otlp_streams.owner(of_scope.scope.attributes)
            for metric in of_scope.metrics:
                header = otlp_streams.header(metric)
                if header is not None:
                    number = streams.add(_stream(resource, scope, header, made=len(streams)))
                    for point in getattr(metric, header.shape).data_points:
                        yield number, point


def _stream(resource: Owner, scope: Owner, header: Header, *, made: int) -> Stream:
    if made >= MAX_NEW:
        return otlp_streams.crowded_out(header.shape)
    return otlp_streams.stream(resource, scope, header)
