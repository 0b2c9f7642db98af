"""The protobuf wire, read by compiled code: fields, texts and packed numbers, never beyond their end.

Malformed is what is so for the generated classes: a tag or length of more than 5 bytes, a number of more
than 10, field 0, a text that is not UTF-8.
"""

from typing import Any

import numpy as np

from domain.telemetry.compiling import inlined
from domain.telemetry.interning import Bytes, word

VARINT, FIXED64, LENGTH, GROUP, GROUP_END, FIXED32 = range(6)
LONG, SHORT = 10, 5  # bytes of a number at most, and of a tag or a length
_MAX_TAG, _MAX_LENGTH = np.uint64(2**32 - 1), np.uint64(2**31 - 1)
_HIGHS = np.uint64(0x8080808080808080)


@inlined
def varint(body: Bytes, at: int, end: int, most: int) -> tuple[np.uint64, int]:
    """A number of at most so many bytes, and the place after it, or -1."""
    value, shift = np.uint64(0), np.uint64(0)
    for i in range(at, min(end, at + most)):
        byte = np.uint64(body[i])
        value |= (byte & np.uint64(127)) << shift
        if byte < np.uint64(128):
            return value, i + 1
        shift += np.uint64(7)
    return value, -1


@inlined
def field(body: Bytes, at: int, end: int) -> tuple[np.int64, np.uint64, int, int]:
    """The tag of the field at `at`, its value, and where that begins and ends; -1 where it is malformed.

    The value is the number or the word that it holds, or its length. A group is its tag only.
    """
    tag, at = varint(body, at, end, SHORT)
    if at < 0 or tag > _MAX_TAG or tag < np.uint64(8):
        return np.int64(0), tag, -1, -1
    kind, value = np.int64(tag & np.uint64(7)), np.uint64(0)
    after: Any = at
    if kind == VARINT:
        value, after = varint(body, at, end, LONG)
    elif kind == LENGTH:
        value, at = varint(body, at, end, SHORT)
        is_within = at >= 0 and value <= _MAX_LENGTH
        after = at + np.int64(value) if is_within else -1
    elif kind == FIXED64:
        after = at + 8
        if after <= end:
            value = word(body, at)
    elif kind == FIXED32:
        after = at + 4
    elif kind not in (GROUP, GROUP_END):
        after = -1
    return np.int64(tag), value, at, after if after <= end else -1


@inlined
def is_text(body: Bytes, at: int, end: int) -> bool:
    """Whether it is UTF-8 (RFC 3629)."""
    while at < end:
        if at + 8 <= end and word(body, at) & _HIGHS == np.uint64(0):
            at += 8
            continue
        first, at = body[at], at + 1
        if first < 0x80:
            continue
        more = 1 if first < 0xE0 else 2 if first < 0xF0 else 3
        if first < 0xC2 or first > 0xF4 or at + more > end:
            return False
        low = 0xA0 if first == 0xE0 else 0x90 if first == 0xF0 else 0x80
        high = 0x9F if first == 0xED else 0x8F if first == 0xF4 else 0xBF
        if body[at] < low or body[at] > high:
            return False
        for i in range(at + 1, at + more):
            if body[i] & 0xC0 != 0x80:
                return False
        at += more
    return True


@inlined
def are_varints(body: Bytes, at: int, end: int) -> bool:
    """Whether it is numbers, one after the other."""
    while 0 <= at < end:
        _, at = varint(body, at, end, LONG)
    return at == end
