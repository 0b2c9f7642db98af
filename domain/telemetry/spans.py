"""OTLP trace requests: each SERVER span is one of `api.requests` and an observation of `api.latency`.

A span counts in the minute of its end. Spans of other kinds are no requests and are passed over.
"""

from collections.abc import Iterator, Sequence
from datetime import datetime

from google.protobuf.json_format import MessageToJson
from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from domain.telemetry import otlp_attributes, points, spans_json, wire_parts
from domain.telemetry.decoded import Decoded
from domain.telemetry.otlp_attributes import Message, Refused, Texts
from domain.telemetry.points import MAX_AHEAD_S, MAX_PROBLEMS, MalformedRequest, Problem
from domain.telemetry.slots import Slots
from domain.telemetry.span_rows import Rows
from domain.telemetry.span_series import Finder

_SERVER = (2, "2", "SPAN_KIND_SERVER")
_NS, _MS = 1_000_000_000, 1e6
# What one body may cost: messages to be held, and attributes to be read, as five of which a span counts.
_MAX_MESSAGES, _MAX_PARTS, _SPAN = 1_000_000, 500_000, 5


class Decoder:
    """Decodes bodies, one at a time."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._grammar = wire_parts.grammar(ExportTraceServiceRequest.DESCRIPTOR)

    def protobuf(self, body: bytes, *, at: datetime, oldest: datetime) -> Decoded:
        """Read a binary request; `at` is the present. Raises MalformedRequest."""
        if wire_parts.count(body, self._grammar, most=_MAX_MESSAGES) > _MAX_MESSAGES:
            raise _too_many()
        try:
            request = ExportTraceServiceRequest.FromString(body)
        except DecodeError:
            raise MalformedRequest("The body is not an OTLP trace request in protobuf.") from None
        return self._decoded(request, at=at, oldest=oldest)

    def json(self, body: bytes, *, at: datetime, oldest: datetime) -> Decoded:
        """Read a JSON request; `at` is the present. Raises MalformedRequest."""
        return self._decoded(spans_json.read(body), at=at, oldest=oldest)

    def warm_up(self) -> None:
        """Compile, or load what was compiled: seconds that the first body need not take."""
        wire_parts.count(b"", self._grammar, most=0)

    def _decoded(self, request: Message, *, at: datetime, oldest: datetime) -> Decoded:
        bounds = int(oldest.timestamp()), int(at.timestamp()) + MAX_AHEAD_S
        finder, rows, problems = Finder(self._slots), Rows(), list[Problem]()
        for number, (span, place, source) in enumerate(_spans(request), 1):
            if span.kind not in _SERVER:
                continue
            try:
                end, ms = _times(span, *bounds)
                slots = finder.find(span, place)
                for flaw in points.source_flaws(source):
                    raise Refused(" ".join(flaw))
                rows.add(number, *slots, source=source, end=end, ms=ms)
            except Refused as refusal:
                name = (span.name or "a span without a name")[:80]
                problems.append(Problem(number, name, str(refusal)))
        return rows.decoded(problems)


def reply(rejected: Sequence[Problem], *, as_json: bool) -> bytes:
    """The body of the 200 that answers a request: empty, or how many spans were refused, and why."""
    response = ExportTraceServiceResponse()
    if rejected:
        texts = [f"span {one.number}: {one.field} {one.message}" for one in rejected[:MAX_PROBLEMS]]
        told = ExportTracePartialSuccess(
            rejected_spans=sum(one.parts for one in rejected), error_message="; ".join(texts)
        )
        response.partial_success.CopyFrom(told)
    return MessageToJson(response, indent=None).encode() if as_json else response.SerializeToString()


def _spans(request: Message) -> Iterator[tuple[Message, Texts, str]]:
    """All spans, with what their owners say of their place and of their source. Raises MalformedRequest."""
    parts = 0
    for of_resource in request.resource_spans or ():
        parts = _counted(parts, of_resource.resource)
        resource = _texts(of_resource.resource)
        source = otlp_attributes.source(resource)
        for of_scope in of_resource.scope_spans or ():
            parts = _counted(parts, of_scope.scope)
            place = otlp_attributes.placing(resource) | otlp_attributes.placing(_texts(of_scope.scope))
            for span in of_scope.spans or ():
                parts = _counted(parts, span)
                yield span, place, source


def _counted(parts: int, one: Message) -> int:
    """The cost of what was read, with one more message."""
    parts += _SPAN if one is None else _SPAN + len(one.attributes or ())
    if parts > _MAX_PARTS:
        raise _too_many()
    return parts


def _texts(owner: Message) -> Texts:
    return {} if owner is None else otlp_attributes.texts(owner.attributes or ())


def _times(span: Message, oldest: int, newest: int) -> tuple[int, float]:
    """The epoch second of the end, and how long it took, in ms. Raises Refused."""
    start, end = span.start_time_unix_nano or 0, span.end_time_unix_nano or 0
    if not start or not end:
        raise Refused(f"{'end' if start else 'start'} is missing")
    if end < start:
        raise Refused("end is before its start")
    if end // _NS > newest:
        raise Refused(f"end is more than {MAX_AHEAD_S // 60} minutes in the future")
    if start // _NS < oldest:
        raise Refused("start is older than points may be")
    return end // _NS, (end - start) / _MS


def _too_many() -> MalformedRequest:
    return MalformedRequest("The body has too many spans and attributes: send it in parts.")
