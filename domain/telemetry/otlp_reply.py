"""What a sender of OTLP is answered: nothing, or how many data points were refused, and why the first."""

from collections.abc import Sequence

from google.protobuf.json_format import MessageToJson
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)

from domain.telemetry.points import MAX_PROBLEMS, Problem


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
