"""OTLP metrics requests in JSON, in columns: attributes that were seen before are not read again."""

from collections.abc import Iterator, Sequence

import msgspec
import numpy as np

from domain.telemetry import otlp_json_buckets, otlp_messages, otlp_plain, otlp_streams, wire_points
from domain.telemetry.interning import MISSING
from domain.telemetry.otlp_attributes import MAX_NEW, Refused
from domain.telemetry.otlp_messages import DataPoint, KeyValue
from domain.telemetry.otlp_rows import Sent, require_few
from domain.telemetry.otlp_streams import HISTOGRAM, SUM, Header, Owner, Streams
from domain.telemetry.points import MalformedRequest
from domain.telemetry.refusals import require_few_objects
from domain.telemetry.slots import Slots
from domain.telemetry.wire_points import ODD, PLAIN

_MAX_STREAMS = 1 << 16
_MAX_BYTES, _ENTRY = 1 << 26, 512  # of what is remembered, and about what an entry takes beside its text

Points = Sequence[DataPoint]


class Reader:
    """Reads bodies, one at a time, and remembers the streams and slots of what it has read.

    What it remembers is bounded: with too much of it it begins anew.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._forget()

    def _forget(self) -> None:
        self._streams = Streams()
        self._size = 0
        # Of the body that is read: the streams that were new, and those that stand for too many, by shape.
        self._new, self._crowded_out = 0, dict[str, int]()
        self._owners: list[Owner] = []
        self._owner_numbers: dict[bytes, int] = {}
        self._numbers: dict[tuple[int, int, Header], int] = {}
        self._known: list[dict[bytes, int]] = []  # slots by attributes, for each stream

    def read(self, body: bytes) -> tuple[Sent, Streams]:
        """The data points of a body, and the streams that their numbers are of. Raises MalformedRequest."""
        if len(self._streams) >= _MAX_STREAMS or self._size >= _MAX_BYTES:
            self._forget()
        require_few_objects(body)
        try:
            request = otlp_messages.request.decode(body.decode())
            return self._read(request), self._streams
        except RecursionError:
            raise MalformedRequest("The body is nested too deeply.") from None
        except UnicodeDecodeError:
            raise MalformedRequest("The body is not UTF-8.") from None
        except msgspec.DecodeError as error:
            text = f"The body is not an OTLP metrics request in JSON: {error}."
            raise MalformedRequest(text) from None

    def _read(self, request: otlp_messages.Request) -> Sent:
        self._new, self._crowded_out = 0, dict[str, int]()
        points: list[DataPoint] = []
        runs: list[tuple[int, int]] = []
        for number, run in self._runs(request):
            points.extend(run)
            runs.append((number, len(run)))
            require_few(data_points=len(points))
        numbers, lengths = np.array(runs, np.int32).reshape(-1, 2).T
        sent = Sent(wire_points.points(len(points)), np.repeat(numbers, lengths))
        self._fill(sent, points, runs)
        self._complete(sent, points)
        return sent

    def _runs(self, request: otlp_messages.Request) -> Iterator[tuple[int, Points]]:
        """The data points of each metric, with the number of their stream."""
        for of_resource in request.resource_metrics or ():
            resource = self._owner(of_resource.resource)
            for of_scope in of_resource.scope_metrics or ():
                scope = self._owner(of_scope.scope)
                for metric in of_scope.metrics or ():
                    header = otlp_streams.header(metric)
                    if header is not None:
                        data = getattr(metric, header.shape)
                        yield self._number(resource, scope, header), data.data_points or ()

    def _owner(self, owner: otlp_messages.Owner | None) -> int:
        """The number of a resource or scope."""
        raw = b"null" if owner is None else bytes(owner.attributes)
        number = self._owner_numbers.get(raw)
        if number is None:
            self._owners.append(otlp_streams.owner(_attributes(raw)))
            number = self._owner_numbers[raw] = len(self._owners) - 1
            self._size += _ENTRY + len(raw)
        return number

    def _number(self, resource: int, scope: int, header: Header) -> int:
        """The number of a metric's stream."""
        key = resource, scope, header
        number = self._numbers.get(key)
        if number is None:
            self._new += 1
            if self._new > MAX_NEW:
                return self._crowd_out(header.shape)
            owners = self._owners[resource], self._owners[scope]
            number = self._numbers[key] = self._streams.add(otlp_streams.stream(*owners, header))
            self._known.append({})
            self._size += _ENTRY + len(header.name) + len(header.unit)
        return number

    def _crowd_out(self, shape: str) -> int:
        """The number of what stands for streams that are too many."""
        if shape not in self._crowded_out:
            self._crowded_out[shape] = self._streams.add(otlp_streams.crowded_out(shape))
            self._known.append({})
        return self._crowded_out[shape]

    def _fill(self, sent: Sent, points: Points, runs: Sequence[tuple[int, int]]) -> None:
        """Read what is plain; what is not is left ODD."""
        columns, begin = sent.points, 0
        values: list[float | None] = []
        known: list[int] = []
        for number, length in runs:
            run, begin = points[begin : begin + length], begin + length
            slots = self._known[number]
            known += [slots.get(bytes(point.attributes), MISSING) for point in run]
            values += _values(run, self._streams.streams[number].shape)
        columns.slot[:] = known
        columns.value[:] = values
        columns.time[:] = [point.time_unix_nano or 0 for point in points]
        columns.start[:] = [point.start_time_unix_nano or 0 for point in points]
        shape = self._streams.columns["shape"][sent.stream]
        explicit = np.flatnonzero(shape == HISTOGRAM)
        columns.counts[explicit] = [points[i].count or 0 for i in explicit.tolist()]
        is_plain = (shape <= SUM) | (columns.counts > 0)
        is_plain[[i for i, value in enumerate(values) if value is None]] = False
        is_plain[[i for i, point in enumerate(points) if point.flags]] = False
        explicit = explicit[is_plain[explicit]]
        buckets, is_odd = otlp_json_buckets.explicit([points[i] for i in explicit.tolist()], explicit)
        is_plain[explicit[is_odd]] = False
        columns.state[:] = np.where(is_plain, PLAIN, ODD)
        sent.buckets.append(buckets)

    def _complete(self, sent: Sent, points: Points) -> None:
        """Read one by one the points that are not plain, and find the slots of the others."""
        columns = sent.points
        is_refused = self._streams.columns["is_refused"][sent.stream]
        is_open = (columns.state == ODD) | is_refused | (columns.slot == MISSING)
        for i in np.flatnonzero(is_open).tolist():
            number, raw = int(sent.stream[i]), bytes(points[i].attributes)
            stream, attributes = self._streams.streams[number], _attributes(raw)
            if columns.state[i] == ODD:
                otlp_plain.put(sent, i, points[i], attributes=attributes, stream=stream, slots=self._slots)
            elif stream.refusal is not None:
                sent.refuse(i, stream.shown, stream.refusal)
            else:
                self._place(sent, i, raw, attributes)

    def _place(self, sent: Sent, i: int, raw: bytes, attributes: Sequence[KeyValue]) -> None:
        """Find the slot of point i, the first time from its attributes."""
        number = int(sent.stream[i])
        stream, known = self._streams.streams[number], self._known[number]
        try:
            if raw not in known:
                sent.count_single()
                known[raw] = stream.slot(attributes, self._slots)
                self._size += _ENTRY + len(raw)
            sent.points.slot[i] = known[raw]
        except Refused as refusal:
            sent.refuse(i, stream.shown, str(refusal))


def _attributes(raw: bytes) -> Sequence[KeyValue]:
    return otlp_messages.attributes.decode(raw) or ()


def _values(run: Points, shape: str) -> list[float | None]:
    """The value of each, or the sum of each histogram; None where there is none."""
    if shape in ("gauge", "sum"):
        return [point.as_int if point.as_double is None else point.as_double for point in run]
    return [point.sum for point in run]
