"""What the messages of an OTLP metrics request hold, as numbers that compiled code can read.

Messages are numbered from 1; those of data points stand in the order of what holds them.
"""

import numpy as np
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from numpy.typing import NDArray
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from domain.telemetry.compiling import inlined
from domain.telemetry.interning import Bytes
from domain.telemetry.wire import are_varints, is_text

_NAMES = (
    *("ExportMetricsServiceRequest", "ResourceMetrics", "ScopeMetrics", "Resource", "InstrumentationScope"),
    *("Metric", "Gauge", "Sum", "Histogram", "ExponentialHistogram", "Summary"),
    *("NumberDataPoint", "HistogramDataPoint", "ExponentialHistogramDataPoint", "SummaryDataPoint"),
)
REQUEST, OF_RESOURCE, OF_SCOPE, RESOURCE, SCOPE, METRIC = range(1, 7)
GAUGE, SUM, HISTOGRAM, EXPONENTIAL, SUMMARY = range(7, 12)
FIRST_POINT, LAST_POINT = 12, 15
NAME, UNIT, TEMPORALITY, MONOTONIC = 1, 3, 2, 3  # fields of a metric, and of its data

# What the length of a field measures, if not a message.
SKIPPED, TEXT, _WORDS, _VARINTS = 0, 100, 101, 102


def messages() -> list[Descriptor]:
    """All that there are, in the order of their numbers."""
    found = [ExportMetricsServiceRequest.DESCRIPTOR]
    for message in found:
        inner = [field.message_type for field in message.fields if field.message_type is not None]
        found.extend(one for one in dict.fromkeys(inner) if one not in found)
    return sorted(found, key=lambda message: (*_NAMES, message.name).index(message.name))


def lengths() -> NDArray[np.int64]:
    """What the length of a field measures, by the numbers of its message and of itself, below 16."""
    known = messages()
    table = np.full((len(known) + 1, 16), SKIPPED)
    for number, message in enumerate(known, 1):
        for field in message.fields:
            table[number, field.number] = _measured(field, known)
    return table


def _measured(field: FieldDescriptor, known: list[Descriptor]) -> int:
    if field.message_type is not None:
        return known.index(field.message_type) + 1
    if field.type == field.TYPE_STRING:
        return TEXT
    if not field.is_repeated:
        return SKIPPED
    return _WORDS if field.type in (field.TYPE_FIXED64, field.TYPE_DOUBLE) else _VARINTS


@inlined
def is_content(body: Bytes, at: int, end: int, measured: int) -> bool:
    """Whether there is what a length is said to measure; of messages nothing is said."""
    if measured == TEXT:
        return bool(is_text(body, at, end))
    if measured == _WORDS:
        return (end - at) % 8 == 0
    return measured != _VARINTS or bool(are_varints(body, at, end))


@inlined
def point_of(shape: int) -> int:
    """The message of the data points in GAUGE, SUM …"""
    return FIRST_POINT if shape <= SUM else FIRST_POINT + shape - SUM
