"""Windows are cut into whole intervals, days at the midnights of their zone; too large ones are refused."""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from domain.core.errors import InvalidInput
from domain.core.settings import Settings
from domain.telemetry import windows
from domain.telemetry.windows import Resolution, Window

LONDON = ZoneInfo("Europe/London")
NOON = datetime(2026, 10, 24, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def begins(window: Window) -> list[str]:
    return [f"{window.at(index):%d %H:%M}" for index in range(window.buckets)]


def test_both_ends_are_rounded_down_to_whole_intervals() -> None:
    window = Window(NOON + timedelta(minutes=7), NOON + timedelta(minutes=23), Resolution.FIVE_MINUTES)
    assert begins(window) == ["24 12:05", "24 12:10", "24 12:15"]
    assert begins(Window(NOON, NOON + timedelta(seconds=59), Resolution.MINUTE)) == []
    assert begins(Window(NOON, NOON - HOUR, Resolution.HOUR)) == []


def test_days_begin_at_local_midnights_and_have_as_many_hours_as_the_clocks_say() -> None:
    window = Window(NOON, NOON + 4 * DAY, Resolution.DAY, LONDON)
    assert begins(window) == ["23 23:00", "24 23:00", "26 00:00", "27 00:00"]
    assert (np.diff(window.edges) / 3600).tolist() == [24, 25, 24, 24]
    kolkata = Window(NOON, NOON + 2 * DAY, Resolution.DAY, ZoneInfo("Asia/Kolkata"))
    assert begins(kolkata) == ["23 18:30", "24 18:30"]


def test_a_day_begins_at_its_first_instant_where_midnight_is_skipped() -> None:
    from_ = datetime(2018, 11, 3, 12, tzinfo=UTC)
    window = Window(from_, from_ + 2 * DAY, Resolution.DAY, ZoneInfo("America/Sao_Paulo"))
    assert begins(window) == ["03 03:00", "04 03:00"]
    assert (np.diff(window.edges) / 3600).tolist() == [24, 23]


def test_an_earlier_window_has_as_many_intervals_and_days_go_by_the_calendar() -> None:
    hours = Window(NOON, NOON + 3 * HOUR, Resolution.HOUR)
    assert begins(hours.earlier(DAY)) == ["23 12:00", "23 13:00", "23 14:00"]
    days = Window(NOON + 2 * DAY, NOON + 4 * DAY, Resolution.DAY, LONDON)
    assert begins(days) == ["26 00:00", "27 00:00"]
    assert begins(days.earlier(2 * DAY)) == ["23 23:00", "24 23:00"]


@pytest.mark.parametrize("by", [timedelta(), -HOUR, timedelta(minutes=90), timedelta(days=99_999)])
def test_what_is_no_whole_number_of_intervals_before_is_refused(by: timedelta) -> None:
    with pytest.raises(InvalidInput) as refused:
        Window(NOON, NOON + 3 * HOUR, Resolution.HOUR).earlier(by)
    assert refused.value.path == ("compareTo",)


@pytest.mark.parametrize(
    ("from_", "until"),
    [
        (datetime.min.replace(tzinfo=UTC), NOON),
        (NOON, datetime.max.replace(tzinfo=UTC)),
        (NOON - timedelta(minutes=100_001), NOON),
    ],
)
def test_a_window_of_other_times_or_too_many_intervals_is_refused(from_: datetime, until: datetime) -> None:
    with pytest.raises(InvalidInput):
        Window(from_, until, Resolution.MINUTE)


def test_a_window_may_hold_as_many_intervals_as_are_allowed() -> None:
    window = Window(NOON - timedelta(minutes=100_000), NOON, Resolution.MINUTE)
    assert window.buckets == 100_000
    with pytest.raises(InvalidInput, match="more than 99999 intervals"):
        window.require_at_most(99_999)


def test_intervals_are_split_into_runs_that_are_together_the_same() -> None:
    window = Window(NOON, NOON + 6 * DAY, Resolution.DAY, LONDON)
    parts = list(window.intervals.split(4))
    assert [where for where, _ in parts] == [slice(0, 4), slice(4, 6)]
    assert [part.edges.tolist() for _, part in parts] == [
        window.edges[:5].tolist(),
        window.edges[4:].tolist(),
    ]
    assert all(part.midnights is not None and (part.midnights == part.edges).all() for _, part in parts)
    [(_, whole)] = window.whole.split(1)
    assert whole.edges.tolist() == [window.edges[0], window.edges[-1]]
    assert whole.midnights is not None
    assert whole.midnights.tolist() == window.edges.tolist()


@pytest.mark.parametrize(
    ("length", "ago", "before", "wanted"),
    [
        (timedelta(hours=6), timedelta(), timedelta(), Resolution.MINUTE),
        (timedelta(hours=7), timedelta(), timedelta(), Resolution.FIVE_MINUTES),
        (timedelta(days=1), timedelta(), timedelta(), Resolution.FIVE_MINUTES),
        (timedelta(days=2), timedelta(), timedelta(), Resolution.HOUR),
        (timedelta(days=16), timedelta(), timedelta(), Resolution.HOUR),
        (timedelta(days=17), timedelta(), timedelta(), Resolution.DAY),
        (timedelta(days=3_000), timedelta(), timedelta(), Resolution.DAY),
        (timedelta(hours=6), timedelta(days=90), timedelta(), Resolution.FIVE_MINUTES),
        (timedelta(hours=6), timedelta(), timedelta(days=91), Resolution.FIVE_MINUTES),
        (timedelta(hours=6), timedelta(days=500), timedelta(), Resolution.HOUR),
        (timedelta(hours=6), timedelta(days=2_000), timedelta(), Resolution.DAY),
        (timedelta(hours=6), timedelta(days=5_000), timedelta(), Resolution.DAY),
    ],
)
def test_the_resolution_is_the_finest_that_fits_and_is_kept(
    length: timedelta, ago: timedelta, before: timedelta, wanted: Resolution
) -> None:
    kept = windows.kept_since(Settings(), NOON)
    until = NOON - ago
    assert windows.finest(until - length, until, kept=kept, before=before) is wanted
