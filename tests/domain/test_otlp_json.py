"""JSON is read as protobuf is: the same requests give the same rows, sketches and refusals."""

import json
from random import Random
from typing import Any

import pytest
from google.protobuf.json_format import MessageToJson
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from domain.telemetry import otlp, otlp_json
from domain.telemetry.points import MalformedRequest
from domain.telemetry.slots import Slots
from tests.domain.otlp_messages import Maker
from tests.domain.otlp_requests import DECODER, NOW, OLDEST, SLOTS, content

_TOO_LARGE = "Expected `int` <= 9223372036854775807"


@settings(deadline=None, max_examples=150)
@given(seed=st.integers(0, 2**32), is_full=st.booleans(), by_number=st.booleans())
def test_a_request_gives_the_same_by_json_and_by_protobuf(seed: int, is_full: bool, by_number: bool) -> None:
    request = Maker(Random(seed), hostility=25).request()
    text = MessageToJson(
        request, always_print_fields_with_no_presence=is_full, use_integers_for_enums=by_number
    )

    by_wire = DECODER.protobuf(request.SerializeToString(), at=NOW, oldest=OLDEST)
    try:
        by_text = DECODER.json(text.encode(), at=NOW, oldest=OLDEST)
    except MalformedRequest as error:
        assert _TOO_LARGE in str(error)  # noqa: PT017
        assume(False)

    # As text, in which not-a-number is like itself.
    assert str(content(by_text, SLOTS)) == str(content(by_wire, SLOTS))


def test_a_body_of_too_many_objects_is_not_read() -> None:
    with pytest.raises(MalformedRequest, match="holds too many objects: send it in parts"):
        DECODER.json(b'{"resourceMetrics": [' + b"{}," * 400_000 + b"{}]}", at=NOW, oldest=OLDEST)


def test_a_temporality_that_a_sender_made_up_is_not_remembered() -> None:
    reader = otlp_json.Reader(Slots())
    for made_up in ("x", "y", 17):
        data: dict[str, Any] = {"aggregationTemporality": made_up, "isMonotonic": True, "dataPoints": []}
        metric = {"name": "api.requests", "sum": data}
        reader.read(json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode())
    assert len(reader._streams) == 1
    assert reader._size > 512


@pytest.mark.parametrize("is_json", [True, False])
@pytest.mark.parametrize("are_metrics", [True, False])
def test_new_series_beyond_what_a_body_may_have_are_refused_singly(is_json: bool, are_metrics: bool) -> None:
    names = [f"queue.depth_{number}" if are_metrics else "queue.depth" for number in range(10_002)]
    places = ["" if are_metrics else str(number) for number in range(10_002)]
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.add(key="vitals.account").value.string_value = "m-1"
    metrics = of_resource.scope_metrics.add().metrics
    for name, place in zip(names, places, strict=True):
        metric = metrics.add(name=name) if are_metrics or not metrics else metrics[0]
        point = metric.gauge.data_points.add(as_int=1, time_unix_nano=int(NOW.timestamp()) * 10**9)
        point.attributes.add(key="place").value.string_value = place
    decoder = otlp.Decoder(Slots())
    if is_json:
        found = decoder.json(MessageToJson(request).encode(), at=NOW, oldest=OLDEST)
    else:
        found = decoder.protobuf(request.SerializeToString(), at=NOW, oldest=OLDEST)
    told = "is one of too many new series in a body: send it in parts"
    assert len(found) == 10_000
    assert [(one.number, one.message) for one in found.problems] == [(10_001, told), (10_002, told)]
