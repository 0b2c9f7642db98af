"""Pieces of plain JSON read from bytes by compiled code: each tells where it ends, or -1 if it is not plain.

Plain is only what every JSON decoder reads in the same way. Nothing is read beyond the end of the bytes, nor,
where lines do not end what they begin, far beyond a line: a body takes time in proportion to its length.
"""

import numpy as np

from domain.telemetry.compiling import inlined
from domain.telemetry.interning import MAX_SEGMENT, Bytes, word

# As numpy's: for whole numbers of Python's own each function would be compiled once a number.
NEWLINE, RETURN, TAB, SPACE = np.frombuffer(b"\n\r\t ", np.uint8)
QUOTE, BACKSLASH, COLON, COMMA, OPEN, CLOSE = np.frombuffer(b'"\\:,{}', np.uint8)
_ZERO, _NINE, _MINUS, _PLUS, _DOT, _T, _Z = np.frombuffer(b"09-+.TZ", np.uint8)

_ONES, _HIGHS = np.uint64(0x0101010101010101), np.uint64(0x8080808080808080)
_PLACES = np.uint64(0x0001020304050607)

_DOUBLE_DIGITS = 15  # of so many any whole number is a double, and the quotient of two is rounded once
_MAX_DIGITS = 18  # so many are an int64
_POWERS = 10.0 ** np.arange(_MAX_DIGITS + 1)
_SPLIT = 2.0**27 + 1
_DOUBT = 2.0**-45
_MAX_COUNT_DIGITS = 10
_MAX_FRACTION = 9
_ROUNDED_UP = 6  # fractions of a second that begin with so many nines may be rounded up to the next
_DAYS_BEFORE = np.array([0, 0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334])
_DAYS_OF = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
_NO_DIGITS = -(10**6)  # so far below that no sum with it is in range


@inlined
def find(body: Bytes, i: int, end: int, byte: int) -> int:
    """The first place from i on with that byte, or the end."""
    pattern = np.uint64(byte) * _ONES
    while i + 8 <= end:
        other = word(body, i) ^ pattern
        # The lowest high bit is that of the first byte that is zero; those above it may be wrong.
        zero = (other - _ONES) & ~other & _HIGHS
        if zero:
            first = (zero & (~zero + np.uint64(1))) >> np.uint64(7)
            return int(i + np.int64((first * _PLACES) >> np.uint64(56)))
        i += 8
    while i < end and body[i] != byte:
        i += 1
    return i


@inlined
def is_same(body: Bytes, i: int, other: int, length: int) -> bool:
    """Whether so many bytes are the same at two places, of which `other` is the earlier."""
    if i + length > len(body):
        return False
    at = 0
    while at + 8 <= length:
        if word(body, i + at) != word(body, other + at):
            return False
        at += 8
    if length >= 8:
        return bool(word(body, i + length - 8) == word(body, other + length - 8))
    while at < length and body[i + at] == body[other + at]:
        at += 1
    return at >= length


@inlined
def past_spaces(body: Bytes, i: int) -> int:
    """The place after white space within the line."""
    while i < len(body) and (body[i] == SPACE or body[i] == TAB or body[i] == RETURN):
        i += 1
    return i


@inlined
def past(body: Bytes, i: int, byte: int) -> int:
    """The place after that byte and the white space around it."""
    if i < 0:
        return -1
    i = past_spaces(body, i)
    if i >= len(body) or body[i] != byte:
        return -1
    return int(past_spaces(body, i + 1))


@inlined
def text(body: Bytes, i: int) -> int:
    """Past the text whose first quote is at i; its escapes are let be, but for one at its end."""
    if i >= len(body) or body[i] != QUOTE:
        return -1
    last = min(len(body), i + 1 + MAX_SEGMENT)
    end = find(body, i + 1, last, QUOTE)
    return -1 if end == last or body[end - 1] == BACKSLASH else int(end + 1)


@inlined
def flat_object(body: Bytes, i: int) -> int:
    """Past the first brace that closes: the end of the object at i, if what is between is one."""
    if i >= len(body) or body[i] != OPEN:
        return -1
    last = min(len(body), i + MAX_SEGMENT)
    end = find(body, i, last, CLOSE)
    return -1 if end == last else int(end + 1)


@inlined
def _digits(body: Bytes, i: int, before: int) -> tuple[int, int]:
    """The number that digits make behind those of `before`, and the place after; it may overflow."""
    while i < len(body) and _ZERO <= body[i] <= _NINE:
        before = before * 10 + int(np.int64(body[i]) - _ZERO)
        i += 1
    return before, i


@inlined
def number(body: Bytes, i: int) -> tuple[float, int]:
    """A number without exponent, and the place after; NaN if it is not surely the nearest double."""
    is_negative = i < len(body) and body[i] == _MINUS
    begin = i + is_negative
    mantissa, end = _digits(body, begin, np.int64(0))
    if end == begin or (body[begin] == _ZERO and end > begin + 1):
        return np.nan, -1
    point = end
    if end < len(body) and body[end] == _DOT:
        mantissa, end = _digits(body, point + 1, mantissa)
        if end == point + 1:
            return np.nan, -1
    digits = end - begin - (end > point)
    if digits > _MAX_DIGITS:
        return np.nan, end
    power = _POWERS[max(end - point - 1, 0)]
    value = mantissa / power if digits <= _DOUBLE_DIGITS else _quotient(mantissa, power)
    # A decoder may or may not keep the sign of a zero.
    return (-value, end if mantissa else -1) if is_negative else (value, end)


@inlined
def _quotient(mantissa: int, power: float) -> float:
    """The double nearest to the quotient, or NaN where it is in doubt; both are below 2^63.

    The remainder of a first quotient is exact (Dekker's product), so that the second is a correction of it.
    """
    near = np.float64(mantissa)
    first = near / power
    remainder = (near - first * power) - _lost(first, power) + np.float64(mantissa - np.int64(near))
    second = remainder / power
    low, high = first + second * (1 - _DOUBT), first + second * (1 + _DOUBT)
    return low if low == high else np.nan


@inlined
def _lost(one: float, other: float) -> float:
    """What rounding takes from a product (T. J. Dekker, 1971)."""
    one_high = one * _SPLIT - (one * _SPLIT - one)
    other_high = other * _SPLIT - (other * _SPLIT - other)
    one_low, other_low = one - one_high, other - other_high
    high = one_high * other_high - one * other
    return high + one_high * other_low + one_low * other_high + one_low * other_low


@inlined
def count(body: Bytes, i: int) -> tuple[int, int]:
    """A whole number above 0, and the place after."""
    if i < len(body) and body[i] == _ZERO:
        return 0, -1
    value, end = _digits(body, i, np.int64(0))
    return value, end if i < end <= i + _MAX_COUNT_DIGITS else -1


@inlined
def time(body: Bytes, i: int) -> tuple[int, int]:
    """The epoch second, without its fraction, of a text such as "2026-11-23T10:01:00Z", and the place after.

    The years are 1970 to 2099, so that every fourth is a leap year.
    """
    if i + 22 > len(body) or body[i] != QUOTE or not _is_punctuated(body, i + 1):
        return 0, -1
    days = _days(100 * _two(body, i + 1) + _two(body, i + 3), _two(body, i + 6), _two(body, i + 9))
    hour, minute, second = _two(body, i + 12), _two(body, i + 15), _two(body, i + 18)
    zone, end = _zone(body, _past_fraction(body, i + 20))
    is_plain = days >= 0 and 0 <= hour < 24 and 0 <= minute < 60 and 0 <= second < 60
    if not is_plain or end < 0 or end >= len(body) or body[end] != QUOTE:
        return 0, -1
    seconds = 86400 * days + 3600 * hour + 60 * minute + second - zone
    return seconds, end + 1 if seconds >= 0 else -1


@inlined
def _is_punctuated(body: Bytes, i: int) -> bool:
    is_date = body[i + 4] == _MINUS and body[i + 7] == _MINUS
    return bool(is_date and body[i + 10] == _T and body[i + 13] == COLON and body[i + 16] == COLON)


@inlined
def _two(body: Bytes, i: int) -> int:
    """The number that two digits make; far below zero if they are none."""
    tens, ones = np.int64(body[i]) - _ZERO, np.int64(body[i + 1]) - _ZERO
    return int(10 * tens + ones) if 0 <= tens <= 9 and 0 <= ones <= 9 else _NO_DIGITS


@inlined
def _days(year: int, month: int, day: int) -> int:
    """Days since 1970, or -1 if there is no such day."""
    if not (1970 <= year < 2100 and 1 <= month <= 12):
        return -1
    is_leap = year % 4 == 0
    if not 1 <= day <= _DAYS_OF[month] + (is_leap and month == 2):
        return -1
    leaps = (year - 1969) // 4 + (is_leap and month > 2)
    return int(365 * (year - 1970) + leaps + _DAYS_BEFORE[month] + day - 1)


@inlined
def _past_fraction(body: Bytes, i: int) -> int:
    if body[i] != _DOT:
        return i
    nines = _past_all(body, i + 1, _NINE) - i - 1
    _, end = _digits(body, i + 1, np.int64(0))
    return int(end) if i + 1 < end <= i + 1 + _MAX_FRACTION and nines < _ROUNDED_UP else -1


@inlined
def _past_all(body: Bytes, i: int, byte: int) -> int:
    """The place after as many of that byte as there are."""
    while i < len(body) and body[i] == byte:
        i += 1
    return i


@inlined
def _zone(body: Bytes, i: int) -> tuple[int, int]:
    """Seconds east of Greenwich, and the place after."""
    if i < 0 or i >= len(body):
        return 0, -1
    if body[i] == _Z:
        return 0, i + 1
    if i + 6 > len(body) or (body[i] != _PLUS and body[i] != _MINUS) or body[i + 3] != COLON:
        return 0, -1
    hours, minutes = _two(body, i + 1), _two(body, i + 4)
    if not (0 <= hours < 24 and 0 <= minutes < 60):
        return 0, -1
    seconds = 3600 * hours + 60 * minutes
    return seconds if body[i] == _PLUS else -seconds, i + 6
