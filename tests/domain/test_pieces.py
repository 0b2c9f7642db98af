"""A stretch of time is read once and whole, from windows that are up to date and no longer than asked for."""

from bisect import bisect_right
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from domain.telemetry import pieces
from domain.telemetry.pieces import Piece
from domain.telemetry.steps import DAY, FIVE_MINUTES, HOUR, MINUTE

TWO_DAYS = 2 * 1440
MINUTES = st.integers(0, TWO_DAYS).map(lambda minute: minute * 60)
STEPS = st.sampled_from([MINUTE, FIVE_MINUTES, HOUR])


def dirty_windows(step: int) -> st.SearchStrategy[list[int]]:
    windows = st.integers(0, TWO_DAYS // step).map(lambda window: window * step * 60)
    return st.lists(windows, max_size=5, unique=True).map(sorted)


DIRTY = st.fixed_dictionaries({step: dirty_windows(step) for step in (FIVE_MINUTES, HOUR)})


def assert_whole(found: list[Piece], begin: int, end: int) -> None:
    assert [(one.begin, one.end) for one in found] == list(pairwise([begin, *(one.end for one in found)]))
    assert (found[-1].end if found else begin) == end
    assert all(one.begin < one.end for one in found)


@given(MINUTES, MINUTES, STEPS, DIRTY)
def test_pieces_are_the_whole_stretch_and_none_is_dirty_or_cut(
    begin: int, end: int, step: int, dirty: dict[int, list[int]]
) -> None:
    found = list(pieces.cover(begin, end, step, dirty))
    assert_whole(found, begin, max(begin, end))
    for one in found:
        assert one.step <= step
        assert one.begin % (one.step * 60) == one.end % (one.step * 60) == 0
        assert not any(one.begin <= window < one.end for window in dirty.get(one.step, ()))


@given(MINUTES, MINUTES, STEPS, st.integers(1, 400))
def test_a_piece_is_split_into_pieces_of_few_windows(begin: int, end: int, step: int, most: int) -> None:
    whole = Piece(step, begin // (step * 60) * step * 60, end // (step * 60) * step * 60)
    found = list(whole.split(most))
    assert_whole(found, whole.begin, max(whole.begin, whole.end))
    assert all(one.step == step and one.windows <= most for one in found)
    assert sum(one.windows for one in found) == max(0, whole.windows)


@given(MINUTES, MINUTES, st.sets(st.integers(0, 2)))
def test_of_chunks_whole_days_alone_are_read(begin: int, end: int, days: set[int]) -> None:
    packed = [day * 86_400 for day in sorted(days)]
    whole = Piece(FIVE_MINUTES, begin // 300 * 300, end // 300 * 300)
    found = list(pieces.of_chunks(whole, packed))
    assert_whole(found, whole.begin, max(whole.begin, whole.end))
    within = [day for day in packed if whole.begin <= day and day + 86_400 <= whole.end]
    assert [one for one in found if one.step == MINUTE] == [
        Piece(MINUTE, day, day + 86_400) for day in within
    ]


DAYS = [0, 86_400, 86_400 + 90_000, 3 * 86_400 + 3_600]  # the second has 25 hours


def test_days_are_read_in_one_piece_but_for_those_that_are_dirty() -> None:
    assert list(pieces.cover_days(DAYS, {})) == [Piece(DAY, 0, DAYS[3])]
    found = list(pieces.cover_days(DAYS, {DAY: [DAYS[1]], HOUR: [DAYS[1] + 3_600]}))
    assert found == [
        Piece(DAY, 0, DAYS[1]),
        Piece(HOUR, DAYS[1], DAYS[1] + 3_600),
        Piece(FIVE_MINUTES, DAYS[1] + 3_600, DAYS[1] + 7_200),
        Piece(HOUR, DAYS[1] + 7_200, DAYS[2]),
        Piece(DAY, DAYS[2], DAYS[3]),
    ]


@given(st.integers(-100_000, DAYS[-1] + 100_000), st.booleans())
def test_days_are_made_of_hours_near_one_of_another_time_zone(other: int, is_dirty: bool) -> None:
    dirty = {DAY: [other]} if is_dirty else {}
    found = list(pieces.cover_days(DAYS, dirty, [] if is_dirty else [other]))
    assert_whole(found, 0, DAYS[-1])
    day = bisect_right(DAYS, other) - 1
    if other not in DAYS and 0 <= day < len(DAYS) - 1:
        overlapped = [one for one in found if one.begin < DAYS[day + 1] and one.end > DAYS[day]]
        assert {one.step for one in overlapped} == {HOUR}
