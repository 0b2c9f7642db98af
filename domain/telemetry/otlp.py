"""OTLP metrics requests, protobuf and JSON: good data points become rows, others are refused singly.

Delta sums and histograms add up, gauges and sums that may fall replace, cumulative ones are readings.
"""

from datetime import UTC, datetime

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from domain.telemetry import otlp_json, otlp_protobuf, otlp_rows
from domain.telemetry.decoded import Decoded
from domain.telemetry.otlp_reply import reply
from domain.telemetry.slots import Slots

__all__ = ["Decoder", "reply", "warm_up"]


class Decoder:
    """Decodes bodies, one at a time; what it has seen before it finds again without reading it."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._protobuf, self._json = otlp_protobuf.Reader(slots), otlp_json.Reader(slots)

    def protobuf(self, body: bytes, *, at: datetime, oldest: datetime) -> Decoded:
        """Read a binary request that came `at`, with no points before `oldest`. Raises MalformedRequest."""
        sent, streams = self._protobuf.read(body)
        return otlp_rows.decoded(sent, streams, self._slots, at=at, oldest=oldest)

    def json(self, body: bytes, *, at: datetime, oldest: datetime) -> Decoded:
        """Read a JSON request, likewise."""
        sent, streams = self._json.read(body)
        return otlp_rows.decoded(sent, streams, self._slots, at=at, oldest=oldest)


def warm_up() -> None:
    """Compile what reads protobuf, or load what was compiled before; else the first body waits for it."""
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.add(key="vitals.account").value.string_value = "none"
    of_resource.scope_metrics.add().metrics.add(name="none").gauge.data_points.add(as_int=1)
    body = request.SerializeToString()
    epoch = datetime.fromtimestamp(0, UTC)
    decoder = Decoder(Slots())
    decoder.protobuf(body, at=epoch, oldest=epoch)
    # Twice the same resource, which is read in another way.
    decoder.protobuf(body + bytes.fromhex("0a04 0a00 0a00"), at=epoch, oldest=epoch)
