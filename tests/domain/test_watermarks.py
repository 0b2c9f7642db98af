"""Minutes close by event time: the same minutes at any speed, and none while a source may still speak."""

from datetime import UTC, datetime, timedelta

from domain.telemetry.watermarks import Mark, closed_until

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LONG_AGO = datetime(2023, 5, 1, 9, 30, tzinfo=UTC)
MINUTE, SECOND = timedelta(minutes=1), timedelta(seconds=1)


def test_a_live_source_closes_a_minute_fifteen_seconds_after_its_end() -> None:
    mark = Mark(newest_at=NOON, received_at=NOON + 61 * SECOND)
    assert closed_until([mark], NOON + 74 * SECOND) == NOON
    assert closed_until([mark], NOON + 75 * SECOND) == NOON + MINUTE


def test_a_replayed_source_closes_by_its_own_points_whatever_the_clock_says() -> None:
    mark = Mark(newest_at=LONG_AGO, received_at=NOON)
    assert closed_until([mark], NOON + SECOND) == LONG_AGO - MINUTE
    assert closed_until([mark], NOON + 74 * SECOND) == LONG_AGO - MINUTE


def test_silence_closes_the_last_minute_of_a_replay() -> None:
    mark = Mark(newest_at=LONG_AGO, received_at=NOON)
    assert closed_until([mark], NOON + 75 * SECOND) == LONG_AGO + MINUTE


def test_the_slower_of_two_sources_holds_back_the_minute_until_it_falls_silent() -> None:
    fast = Mark(newest_at=LONG_AGO + 10 * MINUTE, received_at=NOON)
    slow = Mark(newest_at=LONG_AGO, received_at=NOON - 10 * SECOND)
    assert closed_until([fast, slow], NOON) == LONG_AGO - MINUTE
    silent = Mark(newest_at=LONG_AGO, received_at=NOON - 80 * SECOND)
    assert closed_until([fast, silent], NOON) == LONG_AGO + 9 * MINUTE


def test_a_live_source_that_is_gone_closes_nothing_more() -> None:
    mark = Mark(newest_at=NOON, received_at=NOON + 61 * SECOND)
    assert closed_until([mark], NOON + 4 * MINUTE) == NOON + 3 * MINUTE
    assert closed_until([mark], NOON + timedelta(hours=5)) == NOON + MINUTE


def test_a_point_of_the_future_closes_nothing_before_the_clock_does() -> None:
    ahead = Mark(newest_at=NOON + 5 * MINUTE, received_at=NOON)
    assert closed_until([ahead], NOON + 20 * SECOND) == NOON
    assert closed_until([ahead], NOON + 80 * SECOND) == NOON + MINUTE
