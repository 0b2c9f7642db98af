"""OTLP/JSON trace requests, as structs that answer like the protobuf messages: one walk reads both."""

import msgspec

from domain.telemetry.otlp_messages import KeyValue, Message, Unsigned
from domain.telemetry.points import MalformedRequest
from domain.telemetry.refusals import require_few_objects


class Owner(Message):
    """A resource or an instrumentation scope."""

    attributes: list[KeyValue] | None = None


class Status(Message):
    code: int | str | None = None


class Span(Message):
    """What is read of a span."""

    name: str | None = None
    kind: int | str | None = None
    start_time_unix_nano: Unsigned | None = None
    end_time_unix_nano: Unsigned | None = None
    attributes: list[KeyValue] | None = None
    status: Status | None = None


class ScopeSpans(Message):
    scope: Owner | None = None
    spans: list[Span] | None = None


class ResourceSpans(Message):
    resource: Owner | None = None
    scope_spans: list[ScopeSpans] | None = None


class Request(Message):
    resource_spans: list[ResourceSpans] | None = None


# Lax, because protobuf's JSON writes 64-bit integers as text.
_decoder = msgspec.json.Decoder(Request, strict=False)


def read(body: bytes) -> Request:
    """Raises MalformedRequest."""
    require_few_objects(body)
    try:
        return _decoder.decode(body.decode())
    except RecursionError:
        raise MalformedRequest("The body is nested too deeply.") from None
    except UnicodeDecodeError:
        raise MalformedRequest("The body is not UTF-8.") from None
    except msgspec.DecodeError as error:
        raise MalformedRequest(f"The body is not an OTLP trace request in JSON: {error}.") from None
