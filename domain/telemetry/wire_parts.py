"""How many messages lie within each other in a protobuf body, counted before objects are made of them.

A message of two bytes becomes an object of a hundred and more: a small body could fill the memory.
"""

import numpy as np
from google.protobuf.descriptor import Descriptor
from numpy.typing import NDArray

from domain.telemetry.compiling import compiled
from domain.telemetry.interning import Bytes
from domain.telemetry.wire import LENGTH, field

_MAX_DEPTH = 100
_FIELDS = 32  # beyond all field numbers that lead to messages

Ints = NDArray[np.int64]


def grammar(root: Descriptor) -> Ints:
    """By the numbers of a message (the root is 1) and a field: the number of the message in it, or 0."""
    known = [root]
    for message in known:
        inner = [one.message_type for one in message.fields if one.message_type is not None]
        known.extend(one for one in dict.fromkeys(inner) if one not in known)
    table = np.zeros((len(known) + 1, _FIELDS), np.int64)
    for number, message in enumerate(known, 1):
        for one in message.fields:
            if one.message_type is not None:
                table[number, one.number] = known.index(one.message_type) + 1
    return table


def count(body: bytes, grammar: Ints, *, most: int) -> int:
    """The messages in a body before what is malformed, if anything is; at most one more than `most`."""
    return int(_count(np.frombuffer(body, np.uint8), grammar, np.zeros((_MAX_DEPTH, 2), np.int64), most))


@compiled
def _count(body: Bytes, grammar: Ints, stack: Ints, most: int) -> int:
    """`stack` is room for the end and the number of each message that is being read."""
    stack[0, 0], stack[0, 1] = len(body), 1
    level, at, found = 0, 0, 0
    while level >= 0 and found <= most:
        if at == stack[level, 0]:
            level -= 1
            continue
        tag, _, begin, after = field(body, at, stack[level, 0])
        if after < 0:
            return found
        number = tag >> 3
        inner = grammar[stack[level, 1], number] if tag & 7 == LENGTH and number < _FIELDS else 0
        at = after
        if inner != 0:
            found += 1
            level += 1
            if level == _MAX_DEPTH:
                return found
            stack[level, 0], stack[level, 1] = after, inner
            at = begin
    return found
