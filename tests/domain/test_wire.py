"""The walk over the wire refuses exactly what the generated classes refuse."""

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import example, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest

from domain.telemetry import wire_grammar, wire_structure
from domain.telemetry.wire_structure import MALFORMED, SOUND, UNUSUAL, Structure

GRAMMAR = wire_structure.grammar()


def field(number: int, content: bytes, *, size: int | None = None) -> bytes:
    """A field with a length, which may be a lie."""
    return bytes([number << 3 | 2]) + varint(len(content) if size is None else size) + content


def varint(value: int) -> bytes:
    return varint_of(value, 1 + max(value.bit_length() - 1, 0) // 7)


def varint_of(value: int, length: int) -> bytes:
    """A number in so many bytes, more than it needs or not."""
    return bytes([value >> 7 * i & 127 | (128 if i < length - 1 else 0) for i in range(length)])


def metric(content: bytes) -> bytes:
    """A body with a metric of which this is the content."""
    return field(1, field(2, field(2, content)))


def walk(body: bytes, *, room: int = 100) -> tuple[int, Structure]:
    found = wire_structure.structure(room)
    content = np.frombuffer(body, np.uint8)
    state = wire_structure.outline(content, GRAMMAR, found)
    for begin, end, row, *_ in wire_structure.filled(found).points.tolist() if state == SOUND else ():
        shape = found.metrics[row, wire_structure.SHAPE]
        inner = wire_structure.walk(
            content, begin, end, wire_grammar.point_of(shape), wire_structure.POINT_DEPTH, GRAMMAR, found
        )
        state = min(state, inner)
    return state, found


def is_request(body: bytes) -> bool:
    try:
        ExportMetricsServiceRequest.FromString(body)
    except DecodeError:
        return False
    return True


def any_value(depth: int, innermost: bytes = b"") -> bytes:
    """A list in a list in a list …: two messages for each."""
    for _ in range(depth):
        innermost = field(5, field(1, innermost))
    return innermost


def groups(depth: int) -> bytes:
    return b"\x7b" * depth + b"\x7c" * depth


GAUGE, HISTOGRAM, EXPONENTIAL = 5, 9, 10
POINTS = {
    "a number of ten bytes": b"\x40" + b"\xff" * 9 + b"\x7f",
    "a number of eleven bytes": b"\x40" + b"\xff" * 10 + b"\x01",
    "a number without an end": b"\x40\x80",
    "a tag of five bytes": varint_of(0x40, 5) + b"\x01",
    "a tag of six bytes": varint_of(0x40, 6) + b"\x01",
    "the greatest tag": varint(2**32 - 8) + b"\x01",
    "a tag beyond 32 bits": varint(2**32) + b"\x01",
    "field 0": b"\x00\x00",
    "a length of five bytes": b"\x3a" + varint_of(0, 5),
    "a length of six bytes": b"\x3a" + varint_of(0, 6),
    "a length beyond the end": field(7, b"", size=1),
    "a length of 2^31": field(7, b"", size=2**31),
    "a length of 2^32 - 1": field(7, b"", size=2**32 - 1),
    "an unknown kind": b"\x7e",
    "another unknown kind": b"\x7f",
    "a group": b"\x7b\x08\x01\x7c",
    "a group by the number of a known field": b"\x3b\x3c",
    "a group with another end": b"\x7b\x74",
    "a group without an end": b"\x7b",
    "an end without a group": b"\x7c",
    "groups as deep as may be": groups(95),
    "groups that are too deep": groups(96),
    "a group cut by its message": field(7, b"\x7b") + b"\x7c",
    "half a word": b"\x19" + bytes(7),
    "half a short word": b"\x7d" + bytes(3),
    "a short word": b"\x7d" + bytes(4),
    "a number for a message": b"\x38\x01",
    "a text for a number": field(3, b"\xff"),
    "an attribute with a key": field(7, field(1, "é".encode())),
    "an attribute whose key is no text": field(7, field(1, b"\xe9")),
    "an attribute whose value is no text": field(7, field(2, field(1, b"\xc0\x80"))),
    "an attribute that is any bytes": field(7, field(2, field(7, b"\xff"))),
    "lists as deep as may be": field(7, field(2, any_value(46))),
    "lists that are too deep": field(7, field(2, any_value(47))),
    "lists with groups": field(7, field(2, any_value(45, groups(2)))),
    "lists with one group too many": field(7, field(2, any_value(45, groups(4)))),
    "an exemplar": field(5, b"\x31" + bytes(8)),
    "half an exemplar": field(5, b"\x31" + bytes(7)),
}


@pytest.mark.parametrize("point", POINTS.values(), ids=POINTS.keys())
def test_a_data_point_is_refused_as_the_generated_class_refuses_it(point: bytes) -> None:
    body = metric(field(GAUGE, field(1, point)))

    assert (walk(body)[0] == SOUND) == is_request(body)


PARTS = {
    "words": field(HISTOGRAM, field(1, field(6, bytes(16)) + field(7, bytes(8)))),
    "words and a half": field(HISTOGRAM, field(1, field(6, bytes(12)))),
    "unpacked words": field(HISTOGRAM, field(1, b"\x31" + bytes(8))),
    "numbers": field(EXPONENTIAL, field(1, field(8, field(2, b"\x01\x80\x01")))),
    "a cut number": field(EXPONENTIAL, field(1, field(8, field(2, b"\x01\x80")))),
    "a number that is too long": field(EXPONENTIAL, field(1, field(8, field(2, b"\xff" * 10 + b"\x01")))),
    "a quantile": field(11, field(1, field(6, b"\x09" + bytes(8)))),
    "half a quantile": field(11, field(1, field(6, b"\x09" + bytes(7)))),
    "metadata": field(12, field(1, b"k")),
    "metadata that are no text": field(12, field(1, b"\xff")),
    "data of a shape that is not known": field(13, b"\xff"),
}


@pytest.mark.parametrize("content", PARTS.values(), ids=PARTS.keys())
def test_a_metric_is_refused_as_the_generated_class_refuses_it(content: bytes) -> None:
    assert (walk(metric(content))[0] == SOUND) == is_request(metric(content))


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=12))
@example("aaaaaaaaé".encode())
@example("€".encode())
@example(b"\xed\x9f\xbf")
@example(b"\xed\xa0\x80")
@example(b"\xee\x80\x80")
@example(b"\xe0\x9f\xbf")
@example(b"\xf0\x8f\xbf\xbf")
@example(b"\xf0\x90\x80\x80")
@example(b"\xf4\x8f\xbf\xbf")
@example(b"\xf4\x90\x80\x80")
@example(b"\xf5\x80\x80\x80")
@example(b"\xc1\xbf")
@example(b"\xc2")
@example(b"\x80")
def test_a_text_is_what_python_reads_as_one(text: bytes) -> None:
    try:
        text.decode()
        expected = SOUND
    except UnicodeDecodeError:
        expected = MALFORMED

    assert walk(metric(field(1, text)))[0] == expected


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=20))
def test_any_bytes_are_refused_as_the_generated_classes_refuse_them(body: bytes) -> None:
    for whole in (body, metric(body), metric(field(GAUGE, field(1, body)))):
        assert (walk(whole)[0] != MALFORMED) == is_request(whole)


def test_what_is_said_of_a_metric_is_found_wherever_it_stands() -> None:
    point = field(1, b"\x19" + bytes(8))
    total = field(7, point + b"\x10\x01" + point + b"\x18\x01")
    of_scope = field(2, field(2, field(3, b"ms") + total + field(1, b"a")) + field(1, b"\x0a\x01s"))
    body = field(1, of_scope + field(1, field(1, field(1, b"k"))))

    state, found = walk(body)

    metrics = wire_structure.filled(found).metrics.tolist()
    texts = [
        body[begin:end] for begin, end in np.reshape(metrics[0][: wire_structure.SHAPE], (4, 2)).tolist()
    ]
    assert (state, wire_structure.size(found), len(metrics)) == (SOUND, 2, 1)
    assert texts == [field(1, field(1, b"k")), b"\x0a\x01s", b"a", b"ms"]
    assert metrics[0][wire_structure.SHAPE :] == [wire_grammar.SUM, 1, 1]


@pytest.mark.parametrize(
    "body",
    [
        metric(field(5, b"") + field(7, b"")),
        metric(field(5, b"") + field(5, b"")),
        field(1, field(1, b"") + field(2, b"") + field(1, b"")),
        field(1, field(2, field(1, b"") + field(1, b""))),
    ],
)
def test_what_must_be_merged_is_unusual(body: bytes) -> None:
    assert walk(body)[0] == UNUSUAL


def test_more_data_points_than_there_is_room_for_are_counted() -> None:
    body = metric(field(GAUGE, field(1, b"") * 7)) * 3

    state, found = walk(body, room=5)

    assert (state, wire_structure.size(found)) == (SOUND, 21)
