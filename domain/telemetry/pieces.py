"""Which windows make up a stretch of time: rollups as coarse as they are up to date, minutes elsewhere."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

from domain.telemetry.steps import DAY, FIVE_MINUTES, HOUR, MINUTE

_FINER = {DAY: HOUR, HOUR: FIVE_MINUTES, FIVE_MINUTES: MINUTE}
_DAY_S, _LONGEST_S = 24 * 3600, 26 * 3600
_CLOCKS_DIFFER_S = 3 * 3600  # zones that agree on one midnight do so on the next, or within this

Dirty = Mapping[int, Sequence[int]]
"""By step, in order: the windows that are not up to date, by the epoch second at which they begin."""


class Piece(NamedTuple):
    """The windows of `step` minutes that begin in [begin, end), epoch seconds."""

    step: int
    begin: int
    end: int

    @property
    def windows(self) -> int:
        return -(-(self.end - self.begin) // (self.step * 60))

    def split(self, most: int) -> Iterator["Piece"]:
        """Pieces of at most so many windows."""
        length = max(most, 1) * self.step * 60
        for begin in range(self.begin, self.end, length):
            yield Piece(self.step, begin, min(begin + length, self.end))


def cover(begin: int, end: int, step: int, dirty: Dirty) -> Iterator[Piece]:
    """Pieces that together are [begin, end), none of a longer step and none that is dirty.

    `step` is at most an hour: windows begin at multiples of it.
    """
    length = step * 60
    first, last = -(-begin // length) * length, end // length * length
    if step == MINUTE or first >= last:
        if begin < end:
            yield from (
                [Piece(MINUTE, begin, end)] if step == MINUTE else cover(begin, end, _FINER[step], dirty)
            )
        return
    yield from cover(begin, first, _FINER[step], dirty)
    for at, until in _between(dirty.get(step, ()), first, last, length):
        if until - at == 0:
            yield from cover(at, at + length, _FINER[step], dirty)
        else:
            yield Piece(step, at, until)
    yield from cover(last, end, _FINER[step], dirty)


def cover_days(midnights: Sequence[int], dirty: Dirty, others: Iterable[int] = ()) -> Iterator[Piece]:
    """The same for whole days between the local midnights.

    `others` are the beginnings of days that were rolled up under another time zone: what they overlap is
    not as long as a day is now, or not up to date, and is made of hours.
    """
    loose = set(dirty.get(DAY, ()))
    strange = sorted((loose - set(midnights)) | set(others))
    clean = None
    for begin, end in pairwise(midnights):
        if begin in loose or _is_any_between(strange, begin - _LONGEST_S, end + _CLOCKS_DIFFER_S):
            if clean is not None:
                yield Piece(DAY, clean, begin)
            clean = None
            yield from cover(begin, end, HOUR, dirty)
        elif clean is None:
            clean = begin
    if clean is not None:
        yield Piece(DAY, clean, midnights[-1])


def of_chunks(piece: Piece, packed: Sequence[int]) -> Iterator[Piece]:
    """The piece, of which those days (UTC) that are packed, by their beginnings, are made of minutes."""
    at = piece.begin
    for day in packed[bisect_left(packed, piece.begin) : bisect_right(packed, piece.end - _DAY_S)]:
        if at < day:
            yield Piece(piece.step, at, day)
        yield Piece(MINUTE, day, day + _DAY_S)
        at = day + _DAY_S
    if at < piece.end:
        yield Piece(piece.step, at, piece.end)


def _is_any_between(numbers: Sequence[int], low: int, high: int) -> bool:
    """Whether any of the rising numbers lies between these, neither of them included."""
    place = bisect_right(numbers, low)
    return place < len(numbers) and numbers[place] < high


def _between(dirty: Sequence[int], first: int, last: int, length: int) -> Iterator[tuple[int, int]]:
    """Stretches without a dirty window, and each dirty window as one that ends where it begins."""
    at = first
    for loose in dirty[bisect_left(dirty, first) : bisect_left(dirty, last)]:
        if at < loose:
            yield at, loose
        yield loose, loose
        at = loose + length
    if at < last:
        yield at, last
