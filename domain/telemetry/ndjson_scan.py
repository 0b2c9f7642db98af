"""One pass over NDJSON lines of the plain form, in compiled code; what is not plain is left to the decoder.

A row is PLAIN only where the decoder is sure to read the same: texts are compared with texts it has read.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domain.telemetry import interning, scanning
from domain.telemetry.compiling import compiled, inlined
from domain.telemetry.interning import Bytes, Tables, word
from domain.telemetry.scanning import CLOSE, COLON, COMMA, NEWLINE, OPEN, QUOTE

ODD, UNKNOWN, PLAIN = 0, 1, 2
# A field is the column of `places` in which its text begins; it ends in the next one.
ACCOUNT, METRIC, LABELS, SOURCE, VALUE, AT, LINE = 0, 2, 4, 6, 8, 10, 12
IDENTITY = slice(ACCOUNT, LABELS + 2)
_COUNT = 14
_REQUIRED = 1 << ACCOUNT | 1 << METRIC | 1 << VALUE | 1 << AT

_NAMES = (b'account"', b'metric"', b'at"', b'value"', b'labels"', b'source"', b'count"')
_FIELDS = np.array([ACCOUNT, METRIC, AT, VALUE, LABELS, SOURCE, _COUNT])
_LENGTHS = np.array([len(name) for name in _NAMES])
_WORDS = np.array([int.from_bytes(name, "little") for name in _NAMES], np.uint64)
_MASKS = np.array([(1 << 8 * len(name)) - 1 for name in _NAMES], np.uint64)


class Rows(NamedTuple):
    """A row for each line that is not blank; `number` is the line's, from 1, its place LINE of `places`.

    PLAIN rows have a slot, `at` (when the minute begins), `value` (NaN: to be read from its place),
    `observations` (0: none) and `source`: a row that has the same text. UNKNOWN ones lack the slot only.
    """

    state: NDArray[np.uint8]
    number: NDArray[np.int32]
    places: NDArray[np.int64]
    slot: NDArray[np.int32]
    at: NDArray[np.int64]
    value: NDArray[np.float64]
    observations: NDArray[np.int64]
    source: NDArray[np.int32]


def rows(size: int) -> Rows:
    """Room for so many."""
    return Rows(
        state=np.empty(size, np.uint8),
        number=np.empty(size, np.int32),
        places=np.empty((size, LINE + 2), np.int64),
        slot=np.empty(size, np.int32),
        at=np.empty(size, np.int64),
        value=np.empty(size, np.float64),
        observations=np.empty(size, np.int64),
        source=np.empty(size, np.int32),
    )


@compiled
def scan(tables: Tables, body: Bytes, rows: Rows) -> int:
    """Fill the rows of a body and return how many there are, or -1 if there is not room for all.

    `tables` know slots by the texts of account, metric and labels.
    """
    row = number = i = np.int64(0)  # not a literal, for which all would be compiled once more
    while i < len(body):
        number += 1
        i = scanning.past_spaces(body, i)
        if i < len(body) and body[i] != NEWLINE:
            if row == len(rows.state):
                return -1
            rows.number[row] = number
            i = _line(tables, body, i, rows, row)
            row += 1
        i += 1
    return int(row)


@inlined
def _line(tables: Tables, body: Bytes, begin: int, rows: Rows, row: int) -> int:
    """Fill a row from the line at `begin` and return where the line ends."""
    places = rows.places[row]
    places[:] = 0
    rows.observations[row] = 0
    rows.state[row] = ODD
    end = _object(body, begin, rows, row)
    if end >= 0:
        rows.source[row] = _source(body, rows, row)
        rows.slot[row] = interning.lookup(tables, body, places[IDENTITY], 0)
        rows.state[row] = PLAIN
    if end < 0 or rows.slot[row] == interning.MISSING:
        # A text that is not known may go on over the end of the line.
        true_end = scanning.find(body, begin, len(body), NEWLINE)
        rows.state[row] = UNKNOWN if true_end == end else ODD
        end = true_end
    places[LINE], places[LINE + 1] = begin, end
    return int(end)


@inlined
def _object(body: Bytes, i: int, rows: Rows, row: int) -> int:
    """Read the object at i and return where its line ends."""
    seen = 0
    before = OPEN
    while before != CLOSE:
        field, i = _field(body, scanning.past(body, i, before))
        i = scanning.past(body, i, COLON)
        if i < 0 or seen & 1 << field:
            return -1
        seen |= 1 << field
        i = _value(body, i, field, rows, row)
        if i < 0:
            return -1
        i = scanning.past_spaces(body, i)
        before = CLOSE if i < len(body) and body[i] == CLOSE else COMMA
    i = scanning.past(body, i, CLOSE)
    is_whole = i == len(body) or body[i] == NEWLINE
    return i if is_whole and seen & _REQUIRED == _REQUIRED else -1


@inlined
def _field(body: Bytes, i: int) -> tuple[int, int]:
    """The field that is named at i, and the place after its name."""
    if i >= 0 and i + 9 <= len(body) and body[i] == QUOTE:
        name = word(body, i + 1)
        for which in range(len(_FIELDS)):
            if name & _MASKS[which] == _WORDS[which]:
                return _FIELDS[which], i + 1 + _LENGTHS[which]
    return -1, -1


@inlined
def _value(body: Bytes, i: int, field: int, rows: Rows, row: int) -> int:
    """Read the value of a field and return the place after."""
    places = rows.places[row]
    if field == AT:
        rows.at[row], end = _time(body, i, rows, row)
        places[AT], places[AT + 1] = i, end
    elif field == _COUNT:
        rows.observations[row], end = scanning.count(body, i)
    elif field == VALUE:
        rows.value[row], end = scanning.number(body, i)
        places[VALUE], places[VALUE + 1] = i, end
    elif field == LABELS:
        end = scanning.flat_object(body, i)
        places[LABELS], places[LABELS + 1] = i, end
    else:
        end = scanning.text(body, i)
        places[field], places[field + 1] = i + 1, end - 1
    return int(end)


@inlined
def _time(body: Bytes, i: int, rows: Rows, row: int) -> tuple[int, int]:
    """The minute that is written at i, and the place after; mostly it is that of the row before."""
    if row > 0:
        before, end = rows.places[row - 1, AT], rows.places[row - 1, AT + 1]
        if end > before and scanning.is_same(body, i, before, end - before):
            return rows.at[row - 1], i + end - before
    seconds, end = scanning.time(body, i)
    return seconds - seconds % 60, end


@inlined
def _source(body: Bytes, rows: Rows, row: int) -> int:
    """The row that stands for the source of this one: that of the row before if it is the same, or itself."""
    if row == 0 or rows.state[row - 1] == ODD:
        return row
    begin, end = rows.places[row, SOURCE], rows.places[row, SOURCE + 1]
    before, before_end = rows.places[row - 1, SOURCE], rows.places[row - 1, SOURCE + 1]
    if end - begin == before_end - before and scanning.is_same(body, begin, before, end - begin):
        return int(rows.source[row - 1])
    return row
