"""The fields of one data point, read from the wire by compiled code: what each holds, by its role for us."""

from typing import Any, NamedTuple

import numpy as np
from google.protobuf.descriptor import FieldDescriptor
from numpy.typing import NDArray

from domain.telemetry import wire_grammar
from domain.telemetry.compiling import inlined
from domain.telemetry.interning import Bytes
from domain.telemetry.wire import FIXED64, LENGTH, VARINT, field

STRANGE, IGNORED, TIME, START, FLAGS, DOUBLE, INT, COUNT, SUM, ZEROS, SCALE = range(11)
ATTRIBUTES, COUNTS, BOUNDS, POSITIVE, NEGATIVE, UNREAD, _ROLES = range(11, 18)
_ROLE_OF = {
    "time_unix_nano": TIME,
    "start_time_unix_nano": START,
    "flags": FLAGS,
    "as_double": DOUBLE,
    "as_int": INT,
    "count": COUNT,
    "sum": SUM,
    "zero_count": ZEROS,
    "scale": SCALE,
    "attributes": ATTRIBUTES,
    "bucket_counts": COUNTS,
    "explicit_bounds": BOUNDS,
    "positive": POSITIVE,
    "negative": NEGATIVE,
}


class Fields(NamedTuple):
    """Of one data point, by role: the word or number it holds, or where its content begins and ends.

    Attributes are all of them, with their tags. `doubles` are the same bytes as `words`.
    """

    roles: NDArray[np.int64]
    words: NDArray[np.uint64]
    doubles: NDArray[np.float64]
    begins: NDArray[np.int64]
    ends: NDArray[np.int64]


def room() -> Fields:
    words = np.zeros(_ROLES, np.uint64)
    places = np.zeros((2, _ROLES), np.int64)
    return Fields(_roles(), words, words.view(np.float64), begins=places[0], ends=places[1])


def _roles() -> NDArray[np.int64]:
    """What each field is to us, by the number of its message and its tag."""
    table = np.full((wire_grammar.LAST_POINT + 1, 128), STRANGE)
    points = wire_grammar.messages()[wire_grammar.FIRST_POINT - 1 : wire_grammar.LAST_POINT]
    for number, message in enumerate(points, wire_grammar.FIRST_POINT):
        for one in message.fields:
            other = IGNORED if one.message_type is None else UNREAD
            table[number, one.number << 3 | _encoding(one)] = _ROLE_OF.get(one.name, other)
    return table


def _encoding(one: FieldDescriptor) -> int:
    if one.is_repeated or one.message_type is not None:
        return LENGTH
    wide = (one.TYPE_FIXED64, one.TYPE_SFIXED64, one.TYPE_DOUBLE)
    return FIXED64 if one.type in wide else VARINT


@inlined
def read(body: Bytes, at: int, end: int, message: int, fields: Fields) -> int:
    """Fill the fields, and tell by bits which roles there are; 0 if one is strange.

    Strange is a field that is not known or not in its usual encoding, one that is to be merged with
    another, and attributes that do not stand together.
    """
    for role in range(_ROLES):
        fields.words[role] = 0
        fields.begins[role] = fields.ends[role] = 0
    seen = 0
    while at < end:
        start = at
        tag, value, begin, at = field(body, at, end)
        role = fields.roles[message, tag] if at >= 0 and tag < 128 else STRANGE
        is_apart = seen & 1 << role != 0 and (role != ATTRIBUTES or fields.ends[role] != start)
        if role == STRANGE or (is_apart and ATTRIBUTES <= role < UNREAD):
            return 0
        if role == ATTRIBUTES:
            begin, at = start, _past_same(body, start, at, end)
        if seen & 1 << role == 0:
            fields.begins[role] = begin
        fields.ends[role] = at
        fields.words[role] = value
        seen |= 1 << role
    return seen


@inlined
def _past_same(body: Bytes, start: int, at: int, end: int) -> int:
    """Past the fields that have the same tag as the one at `start`, as far as their lengths are short."""
    while at + 1 < end and body[at] == body[start] and body[start] < 128 and body[at + 1] < 128:
        after: Any = at + 2 + np.int64(body[at + 1])
        if after > end:
            break
        at = after
    return at
