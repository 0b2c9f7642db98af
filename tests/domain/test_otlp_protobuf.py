"""The fast reading of protobuf gives what the plain one gives of any body, and refuses the same."""

import os
from pathlib import Path
from random import Random

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from domain.telemetry import otlp_plain, otlp_rows
from domain.telemetry.decoded import Decoded
from domain.telemetry.otlp import Decoder
from domain.telemetry.otlp_streams import Streams
from domain.telemetry.points import MalformedRequest
from domain.telemetry.slots import Slots
from tests.domain.otlp_messages import Maker, in_any_order
from tests.domain.otlp_requests import DECODER, NOW, OLDEST, SLOTS, content

SEEDS = st.integers(0, 2**32)


def plainly(body: bytes) -> tuple[Decoded, Slots]:
    """What the generated classes say of a body. Raises DecodeError."""
    streams, slots = Streams(), Slots()
    sent = otlp_plain.read(ExportMetricsServiceRequest.FromString(body), streams, slots)
    return otlp_rows.decoded(sent, streams, slots, at=NOW, oldest=OLDEST), slots


def fresh() -> tuple[Decoder, Slots]:
    slots = Slots()
    return Decoder(slots), slots


def agree(body: bytes, decoder: Decoder = DECODER, slots: Slots = SLOTS) -> bool:
    """Whether both readings say the same of a body, also when it is read again."""
    try:
        expected = content(*plainly(body))
    except DecodeError:
        with pytest.raises(MalformedRequest):
            decoder.protobuf(body, at=NOW, oldest=OLDEST)
        return True
    both = [content(decoder.protobuf(body, at=NOW, oldest=OLDEST), slots) for _ in range(2)]
    return both == [expected] * 2


@settings(deadline=None, max_examples=150)
@given(SEEDS)
def test_requests_as_exporters_write_them_are_read_as_the_plain_reading_says(seed: int) -> None:
    random = Random(seed)

    assert agree(Maker(random).request().SerializeToString())


@settings(deadline=None, max_examples=100)
@given(SEEDS)
def test_fields_may_stand_in_any_order(seed: int) -> None:
    random = Random(seed)

    assert agree(in_any_order(Maker(random).request(), random))


@settings(deadline=None, max_examples=100)
@given(SEEDS)
def test_parts_that_come_in_two_are_merged(seed: int) -> None:
    random = Random(seed)

    assert agree(in_any_order(Maker(random).request(), random, in_two=True))


@settings(deadline=None, max_examples=200)
@given(SEEDS)
def test_damaged_bodies_are_refused_or_read_as_the_generated_classes_do(seed: int) -> None:
    random = Random(seed)
    body = bytearray(Maker(random).request().SerializeToString())
    for _ in range(random.randint(1, 3)):
        place, noise = random.randrange(len(body) + 1), random.randbytes(random.randrange(4))
        body[place : place + random.randrange(4)] = noise

    assert agree(bytes(body))


def test_a_real_body_is_refused_or_read_wherever_it_ends() -> None:
    folder = os.environ.get("VITALS_TEST_DATA")
    if folder is None:
        pytest.skip("VITALS_TEST_DATA is not set")
    body = (Path(folder) / "otlp" / "metrics.protobuf-bin").read_bytes()

    assert all(agree(body[:end]) for end in range(len(body) + 1))


def test_a_body_of_very_many_parts_that_are_to_be_merged_is_refused_whole() -> None:
    body = bytes.fromhex("0a04 0a00 0a00") + bytes.fromhex("0a00") * 1_000_000

    with pytest.raises(MalformedRequest, match="The body has more than 1000000 parts: send it in several"):
        DECODER.protobuf(body, at=NOW, oldest=OLDEST)


def test_more_buckets_than_there_was_room_for_are_read() -> None:
    request = ExportMetricsServiceRequest()
    of_resource = request.resource_metrics.add()
    of_resource.resource.attributes.add(key="vitals.account").value.string_value = "m-1"
    metric = of_resource.scope_metrics.add().metrics.add(name="size")
    metric.histogram.aggregation_temporality = 1
    for _ in range(40):
        metric.histogram.data_points.add(
            time_unix_nano=1_795_428_060 * 10**9,
            count=100,
            sum=1,
            bucket_counts=[1] * 100,
            explicit_bounds=range(99),
        )

    body = request.SerializeToString()

    assert agree(body, *fresh())
