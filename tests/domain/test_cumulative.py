"""Increases of running totals: the same in whatever order, pieces and repetitions the readings come."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.telemetry import cumulative, sketches
from domain.telemetry.cumulative import MAX_RUNS, CorruptReadings, Increases, Readings

NOON = 1_700_000_040
NS = 1_000_000_000
HOUR = 3600
BOUNDS = [10.0, 100.0]
NO_BUCKETS = (0, 0, 0)
INDEXES = sketches.of_explicit(BOUNDS, np.eye(3, dtype=np.int64)).index.tolist()

Buckets = tuple[int, ...]
Cells = dict[tuple[int, int], tuple[float, Buckets]]  # increases by number and minute after noon


class Reading(NamedTuple):
    """Times are seconds after noon, `start` is None where unknown; the count is that of the buckets."""

    at: float
    value: float
    start: float | None = None
    number: int = 1
    buckets: Buckets = NO_BUCKETS

    @property
    def run(self) -> tuple[int, float]:
        return self.number, -NOON if self.start is None else self.start

    @property
    def minute(self) -> int:
        return int(self.at // 60)


def build(readings: Sequence[Reading]) -> Readings:
    buckets = np.array([one.buckets for one in readings], np.int64).reshape(-1, 3)
    return Readings(
        number=np.array([one.number for one in readings], np.int32),
        start=np.array([round((NOON + one.run[1]) * NS) for one in readings], np.int64),
        at=np.array([NOON + 60 * one.minute for one in readings], np.int64),
        time=np.array([round((NOON + one.at) * NS) for one in readings], np.int64),
        value=np.array([one.value for one in readings], np.float64),
        count=buckets.sum(axis=1),
        sketches=sketches.of_explicit(BOUNDS, buckets),
    )


def cells(increases: Increases) -> Cells:
    """Each row, with its sketch as counts of the explicit buckets that it was made of."""
    found: Cells = {}
    for row, (number, at) in enumerate(zip(increases.number.tolist(), increases.at.tolist(), strict=True)):
        own = sketches.take(increases.sketches, np.array([row]))
        counts = dict(zip(own.index.tolist(), own.counts.tolist(), strict=True))
        buckets = tuple(counts.pop(index, 0) for index in INDEXES)
        assert not counts
        assert sum(buckets) == increases.count[row]
        found[number, (at - NOON) // 60] = increases.value[row], buckets
    return found


def advance_through(
    batches: Iterable[Sequence[Reading]], *, horizon_s: int = HOUR
) -> tuple[Readings, Cells, int]:
    """What is remembered in the end, what each minute was last told to be, and how many came late."""
    known, told, late = cumulative.none(), Cells(), 0
    for batch in batches:
        known, increases = cumulative.advance(known, build(batch), horizon_s=horizon_s)
        known = cumulative.decode(cumulative.encode(known))
        told |= cells(increases)
        late += increases.late
    return known, told, late


def expected(readings: Sequence[Reading]) -> Cells:
    """The increases from all readings at once."""
    runs: dict[tuple[int, float], dict[int, Reading]] = defaultdict(dict)
    for one in sorted(readings, key=lambda one: one.at):
        runs[one.run][one.minute] = one
    seen_since = {number: min(one.minute for one in readings if one.number == number) for number, _ in runs}
    found: Cells = {}
    for (number, start), by_minute in sorted(runs.items()):
        before: Reading | None = None
        for minute, one in sorted(by_minute.items()):
            began_in_sight = start > -NOON and start >= min(60 * seen_since[number], 60 * (minute + 1) - 300)
            if before is not None or began_in_sight:
                add(found, (number, minute), increase(one, before))
            before = one
    return found


def increase(one: Reading, before: Reading | None) -> tuple[float, Buckets]:
    has_fallen = before is not None and (
        one.value < before.value or any(b < a for a, b in zip(before.buckets, one.buckets, strict=True))
    )
    if before is None or has_fallen:
        return one.value, one.buckets
    return one.value - before.value, tuple(b - a for a, b in zip(before.buckets, one.buckets, strict=True))


def add(found: Cells, key: tuple[int, int], more: tuple[float, Buckets]) -> None:
    value, buckets = found.get(key, (0.0, NO_BUCKETS))
    found[key] = value + more[0], tuple(a + b for a, b in zip(buckets, more[1], strict=True))


def same(one: Readings, other: Readings) -> bool:
    return cumulative.encode(one) == cumulative.encode(other)


ONE = st.builds(
    Reading,
    at=st.integers(0, 12 * 4 - 1).map(lambda quarter: quarter * 15 + 7),
    value=st.integers(0, 40).map(float),
    start=st.none() | st.integers(-12, 40).map(lambda quarter: quarter * 15),
    number=st.integers(1, 2),
    buckets=st.tuples(*[st.integers(0, 3)] * 3) | st.just(NO_BUCKETS),
)
# Two readings of a run taken at once are told apart by their order alone.
READINGS = st.lists(ONE, max_size=14, unique_by=lambda one: (one.run, one.at))


def pieces(data: st.DataObject, readings: Sequence[Reading]) -> list[list[Reading]]:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(readings)), max_size=5)))
    return [list(readings[a:b]) for a, b in zip([0, *cuts], [*cuts, len(readings)], strict=True)]


@settings(deadline=None)
@given(READINGS, st.data())
def test_the_increases_are_the_same_in_any_order_and_pieces(
    readings: list[Reading], data: st.DataObject
) -> None:
    shuffled = data.draw(st.permutations(readings))

    known, told, late = advance_through(pieces(data, shuffled))

    assert told == expected(readings)
    assert late == 0
    assert same(known, advance_through([readings])[0])


@settings(deadline=None, max_examples=40)
@given(READINGS, st.data())
def test_a_repeated_piece_changes_nothing(readings: list[Reading], data: st.DataObject) -> None:
    cut = pieces(data, readings)
    again = [batch for batch in cut for _ in range(2)]

    known, told, _ = advance_through([*again, *cut])

    once, told_once, _ = advance_through(cut)
    assert told == told_once
    assert same(known, once)


GROWTH = st.lists(
    st.tuples(
        st.integers(1, 400), st.integers(0, 50), st.tuples(*[st.integers(0, 3)] * 3), st.integers(0, 9)
    ),
    max_size=25,
)


@settings(deadline=None)
@given(GROWTH, st.sampled_from([0, 60, 300]), st.data())
def test_what_is_forgotten_is_not_missed_by_readings_that_come_in_order(
    growth: list[tuple[int, int, Buckets, int]], horizon_s: int, data: st.DataObject
) -> None:
    """One process after the other, started anew where the last number is 0, with gaps of minutes."""
    readings: list[Reading] = []
    at, start, value, buckets = 0, -HOUR, 0.0, NO_BUCKETS
    for seconds, more, into, restart in growth:
        if restart == 0:
            start, value, buckets = at, 0.0, NO_BUCKETS
        at, value = at + seconds, value + more
        buckets = tuple(a + b for a, b in zip(buckets, into, strict=True))
        readings.append(Reading(at, value, start, buckets=buckets))

    known, told, late = advance_through(pieces(data, readings), horizon_s=horizon_s)

    assert told == expected(readings)
    assert late == 0
    newest = max((one.minute for one in readings), default=0)
    beyond = [one for one in readings if one.minute * 60 < newest * 60 - horizon_s]
    assert (known.at < NOON + newest * 60 - horizon_s).sum() <= min(len(beyond), 2)


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=12),
    st.sampled_from([0, 120, HOUR]),
    st.data(),
)
def test_increases_sum_up_to_the_last_less_the_first_that_was_taken(
    growth: list[int], horizon_s: int, data: st.DataObject
) -> None:
    readings = [Reading(60 * n, float(sum(growth[: n + 1])), start=-HOUR) for n in range(len(growth))]
    known, told, taken = cumulative.none(), Cells(), []
    for one in data.draw(st.permutations(readings)):
        known, increases = cumulative.advance(known, build([one]), horizon_s=horizon_s)
        told |= cells(increases)
        taken += [one] if not increases.late else []

    assert sum(value for value, _ in told.values()) == max(taken).value - min(taken).value


def test_the_first_reading_of_a_process_that_is_old_is_where_counting_begins() -> None:
    _, told, _ = advance_through([[Reading(0, 500.0, start=-HOUR)], [Reading(60, 512.0, start=-HOUR)]])
    assert told == {(1, 1): (12.0, NO_BUCKETS)}


@pytest.mark.parametrize(("start", "is_counted"), [(-240, True), (-241, False), (None, False)])
def test_the_first_reading_counts_in_full_where_the_process_is_young(
    start: float | None, is_counted: bool
) -> None:
    _, told, _ = advance_through([[Reading(5, 7.0, start)]])
    assert told == ({(1, 0): (7.0, NO_BUCKETS)} if is_counted else {})


def test_a_process_that_started_while_the_series_was_read_counts_in_full_however_late_it_is_read() -> None:
    before = [Reading(0, 100.0, start=-HOUR), Reading(60, 130.0, start=-HOUR)]
    _, told, _ = advance_through([before, [Reading(1200, 9.0, start=70)]])
    assert told == {(1, 1): (30.0, NO_BUCKETS), (1, 20): (9.0, NO_BUCKETS)}


def test_a_process_comes_into_sight_by_an_older_reading_that_comes_later() -> None:
    new = [Reading(1200, 9.0, start=70)]
    _, told, _ = advance_through([new, [Reading(0, 100.0, start=-HOUR)]])
    assert told == {(1, 20): (9.0, NO_BUCKETS)}


@pytest.mark.parametrize("start", [None, -HOUR])
def test_a_fall_within_a_run_is_a_reset_after_which_all_counts(start: float | None) -> None:
    readings = [Reading(60 * n, value, start) for n, value in enumerate([100.0, 150.0, 20.0, 25.0])]
    _, told, _ = advance_through([readings])
    assert [told[1, minute][0] for minute in (1, 2, 3)] == [50.0, 20.0, 5.0]


def test_a_fall_of_one_bucket_is_a_reset_even_if_all_else_rose() -> None:
    readings = [Reading(0, 10.0, buckets=(3, 0, 0)), Reading(60, 90.0, buckets=(2, 2, 0))]
    _, told, _ = advance_through([readings])
    assert told == {(1, 1): (90.0, (2, 2, 0))}


def test_a_fall_of_the_count_alone_is_a_reset() -> None:
    earlier, later = build([Reading(0, 5.0)]), build([Reading(60, 9.0)])
    earlier.count[:], later.count[:] = 8, 3
    known, _ = cumulative.advance(cumulative.none(), earlier, horizon_s=HOUR)

    _, increases = cumulative.advance(known, later, horizon_s=HOUR)

    assert (increases.value.tolist(), increases.count.tolist()) == ([9.0], [3])


def test_processes_that_overlap_add_up_in_their_minutes() -> None:
    old = [Reading(60 * n, 100.0 + n, start=-HOUR, buckets=(n, 0, 0)) for n in range(4)]
    new = [Reading(60 * n + 30, 10.0 * n, start=61, buckets=(0, n, 0)) for n in range(2, 4)]
    _, told, _ = advance_through([old, new])
    assert told == {(1, 1): (1.0, (1, 0, 0)), (1, 2): (21.0, (1, 2, 0)), (1, 3): (11.0, (1, 1, 0))}


def test_a_late_reading_parts_the_increase_of_the_next_one() -> None:
    _, told, _ = advance_through([[Reading(0, 0.0), Reading(120, 30.0)], [Reading(60, 12.0)]])
    assert told == {(1, 1): (12.0, NO_BUCKETS), (1, 2): (18.0, NO_BUCKETS)}


def test_of_two_readings_in_a_minute_the_one_taken_later_stays() -> None:
    _, told, _ = advance_through([[Reading(0, 0.0)], [Reading(90, 8.0)], [Reading(70, 5.0)]])
    assert told == {(1, 1): (8.0, NO_BUCKETS)}


def test_of_two_readings_taken_at_once_the_one_that_came_later_stays() -> None:
    batches = [[Reading(0, 0.0)], [Reading(90, 8.0), Reading(90, 9.0)]]
    assert advance_through(batches)[1] == {(1, 1): (9.0, NO_BUCKETS)}
    assert advance_through([*batches, [Reading(90, 7.0)]])[1] == {(1, 1): (7.0, NO_BUCKETS)}


def test_a_reading_before_all_that_is_remembered_is_dropped_and_told() -> None:
    minutes = [Reading(60 * n, 10.0 * n) for n in (0, 2, 4, 9)]

    known, told, late = advance_through([minutes, [Reading(60, 5.0), Reading(120, 21.0)]], horizon_s=300)

    assert late == 1 + 1
    assert told == {(1, 2): (20.0, NO_BUCKETS), (1, 4): (20.0, NO_BUCKETS), (1, 9): (50.0, NO_BUCKETS)}
    assert ((known.at - NOON) // 60).tolist() == [2, 4, 9]


def test_a_process_that_is_gone_is_still_known_to_be_settled() -> None:
    gone = [Reading(60 * n, 10.0 * n, start=-HOUR) for n in range(3)]
    live = [Reading(60 * n, float(n), start=130) for n in range(9, 12)]

    known, told, late = advance_through([gone, live, [Reading(65, 12.0, start=-HOUR)]], horizon_s=300)

    assert late == 1
    assert told == expected([*gone, *live])
    assert ((known.at - NOON) // 60).tolist() == [2, 9, 10, 11]


def test_a_young_process_of_which_readings_were_forgotten_is_not_counted_twice() -> None:
    readings = [Reading(60 * n, 10.0 * n, start=1) for n in range(1, 7)]
    _, told, _ = advance_through([[one] for one in readings], horizon_s=60)
    assert told == {(1, n): (10.0, NO_BUCKETS) for n in range(1, 7)}


def test_only_minutes_that_a_new_reading_touches_are_told() -> None:
    known, _, _ = advance_through([[Reading(60 * n, float(n), number=k) for n in range(9) for k in (1, 2)]])

    _, increases = cumulative.advance(known, build([Reading(250, 5.0)]), horizon_s=HOUR)

    assert cells(increases) == {(1, 4): (2.0, NO_BUCKETS), (1, 5): (0.0, NO_BUCKETS)}


def test_what_a_process_that_goes_on_is_counted_from_outlasts_the_horizon() -> None:
    """Minutes 0 and 1 are older than the last one beyond the horizon; the first is still counted from."""
    slow = [Reading(0, 100.0, start=-HOUR), Reading(660, 160.0, start=-HOUR)]
    gone = [Reading(60, 7.0, start=-2 * HOUR)]
    steady = [Reading(60 * n, float(n), start=-3 * HOUR) for n in range(12)]

    known, told, _ = advance_through(
        [[*slow, *gone, *steady], [Reading(700, 13.0, start=-3 * HOUR)]], horizon_s=300
    )

    assert told[1, 11] == (60.0 + 3.0, NO_BUCKETS)
    assert len(known) == 2 + len(range(5, 12))


def test_a_sender_that_makes_up_starts_fills_no_disk() -> None:
    readings = [Reading(n, 1.0, start=n) for n in range(3 * MAX_RUNS)]

    known, told, _ = advance_through([readings])

    assert sum(value for value, _ in told.values()) == len(readings)
    assert known.start.tolist() == [(NOON + n) * NS for n in range(2 * MAX_RUNS, 3 * MAX_RUNS)]


def test_nothing_comes_of_nothing() -> None:
    known, told, late = advance_through([[], []])
    assert (len(known), told, late) == (0, {}, 0)


def test_increases_of_whole_numbers_are_exact_below_2_to_the_53() -> None:
    _, told, _ = advance_through([[Reading(0, 2.0**53 - 3), Reading(60, 2.0**53 - 1)]])
    assert told == {(1, 1): (2.0, NO_BUCKETS)}


@settings(deadline=None)
@given(READINGS.filter(bool), st.data())
def test_bytes_that_were_spoilt_are_refused_or_are_readings(
    readings: list[Reading], data: st.DataObject
) -> None:
    content = bytearray(cumulative.encode(advance_through([readings])[0]))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    spoilt = bytes(content[: data.draw(st.integers(0, len(content)) | st.just(len(content)))])
    try:
        found = cumulative.decode(spoilt)
    except CorruptReadings:
        return
    assert same(cumulative.decode(cumulative.encode(found)), found)
    known, _ = cumulative.advance(found, build(readings), horizon_s=HOUR)
    assert same(cumulative.decode(cumulative.encode(known)), known)


@settings(deadline=None)
@given(READINGS.filter(bool))
def test_readings_that_end_early_are_refused(readings: list[Reading]) -> None:
    content = cumulative.encode(advance_through([readings])[0])
    for end in range(len(content)):
        with pytest.raises(CorruptReadings):
            cumulative.decode(content[:end])


@pytest.mark.parametrize("form", range(16))
def test_a_promise_of_billions_of_readings_is_refused_at_once(form: int) -> None:
    with pytest.raises(CorruptReadings):
        cumulative.decode(b"\x01\xff\xff\xff\xff" + bytes([form, 1]) * 9)
