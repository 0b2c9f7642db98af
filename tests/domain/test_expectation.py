"""The expectation of a local day: what it rests on, what it leaves out, and whole days alone."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
import pytest

from domain.anomalies import calendar
from domain.anomalies.expectation import expected_rate, expected_volume, middle_mean

MONDAY = date(2026, 3, 2)
SHAPE = 60.0 + 40.0 * np.sin(np.arange(24) * 2 * np.pi / 24)


def days_before(day: date, count: int) -> list[date]:
    return [day - timedelta(days=count - index) for index in range(count)]


def history(day: date, count: int, *, weekend: float = 1.0) -> tuple[list[date], np.ndarray]:
    """One node that repeats SHAPE every day, times `weekend` on weekends."""
    days = days_before(day, count)
    factors = np.array([weekend if one.weekday() >= 5 else 1.0 for one in days])
    return days, (factors[:, None] * SHAPE)[:, :, None]


def by_hour(minutes: np.ndarray) -> np.ndarray:
    return minutes[:, 0].reshape(24, 60).sum(axis=1)


def test_a_repeating_day_is_expected_to_repeat() -> None:
    days, attempts = history(MONDAY, 14)

    expected = expected_volume(attempts, days=days, day=MONDAY)

    assert expected.days.tolist() == [14]
    assert by_hour(expected.minutes) == pytest.approx(SHAPE, rel=0.01)


def test_volume_is_not_expected_under_seven_whole_days() -> None:
    days, attempts = history(MONDAY, 7)
    assert np.isfinite(expected_volume(attempts, days=days, day=MONDAY).minutes).all()

    attempts[0, 0] = np.nan  # the account began after midnight: that day is not whole
    expected = expected_volume(attempts, days=days, day=MONDAY)

    assert expected.days.tolist() == [6]
    assert np.isnan(expected.minutes).all()


def test_weekends_are_learnt_apart_from_weekdays() -> None:
    saturday = MONDAY + timedelta(days=5)
    days, attempts = history(saturday, 14, weekend=0.5)

    expected = expected_volume(attempts, days=days, day=saturday)

    assert by_hour(expected.minutes) == pytest.approx(SHAPE * 0.5, rel=0.01)


def test_from_four_weeks_on_each_day_of_the_week_is_its_own() -> None:
    days, attempts = history(MONDAY, 28)
    mondays = [index for index, one in enumerate(days) if one.weekday() == 0]
    attempts[mondays] *= 2

    expected = expected_volume(attempts, days=days, day=MONDAY)

    assert by_hour(expected.minutes) == pytest.approx(SHAPE * 2, rel=0.01)


def test_days_before_the_first_data_do_not_make_two_weeks_look_like_four() -> None:
    days, attempts = history(MONDAY, 14)
    attempts[[one.weekday() == 0 for one in days], :12] *= 2  # two odd Mondays are no usual Monday yet
    silence = np.full((42, *attempts.shape[1:]), np.nan)

    expected = expected_volume(attempts, days=days, day=MONDAY)
    after_silence = expected_volume(
        np.concatenate([silence, attempts]), days=days_before(MONDAY, 56), day=MONDAY
    )

    np.testing.assert_array_equal(after_silence.minutes, expected.minutes)


def test_one_sales_day_and_a_holiday_in_the_history_move_nothing() -> None:
    days, attempts = history(MONDAY, 14)
    attempts[4] *= 2.6
    attempts[8] *= 0.1

    expected = expected_volume(attempts, days=days, day=MONDAY, holidays={days[8]})

    assert by_hour(expected.minutes) == pytest.approx(SHAPE, rel=0.02)


def test_growth_of_the_last_days_lifts_the_expectation() -> None:
    days, attempts = history(MONDAY, 14)
    attempts[7:] *= 1.4

    expected = expected_volume(attempts, days=days, day=MONDAY)

    assert by_hour(expected.minutes).sum() == pytest.approx(SHAPE.sum() * 1.4, rel=0.05)


def test_a_forecast_takes_the_place_of_the_season_where_there_is_one() -> None:
    days, attempts = history(MONDAY, 14)
    both = np.repeat(attempts, 2, axis=2)
    forecast = np.stack([SHAPE * 3, np.full(24, np.nan)], axis=1)

    minutes = expected_volume(both, days=days, day=MONDAY, forecast=forecast).minutes

    assert by_hour(minutes[:, :1]) == pytest.approx(SHAPE * 3, rel=0.01)
    assert by_hour(minutes[:, 1:]) == pytest.approx(SHAPE, rel=0.01)


def test_a_rate_needs_three_days_and_two_hundred_attempts() -> None:
    attempts = np.full((3, 24, 2), [100.0, 1.0])
    expected = expected_rate(attempts, attempts * 0.9)
    assert expected.minutes[:, 0] == pytest.approx(0.9)
    assert np.isnan(expected.minutes[:, 1]).all()

    assert np.isnan(expected_rate(attempts[:2], attempts[:2] * 0.9).minutes).all()


def test_an_incident_in_the_history_does_not_lower_the_expected_rate() -> None:
    attempts = np.full((7, 24, 1), 600.0)
    good = attempts * 0.9
    good[3, 14:19] = attempts[3, 14:19] * 0.5

    assert expected_rate(attempts, good).minutes[:, 0] == pytest.approx(0.9)


def test_the_middle_mean_ignores_the_ends_and_what_is_unknown() -> None:
    values = np.array([[1.0, np.nan], [2.0, 5.0], [3.0, 7.0], [1000.0, np.nan]])
    assert middle_mean(values).tolist() == [2.5, 6.0]


def test_hours_are_folded_into_the_local_days_of_a_zone_with_half_hours() -> None:
    zone = ZoneInfo("Asia/Kolkata")
    hours = [datetime(2026, 3, 1, tzinfo=UTC) + timedelta(hours=h) for h in range(24)]

    folded = calendar.fold(hours, np.arange(24.0)[:, None], zone=zone, before=date(2026, 3, 2), days=1)

    assert folded.shift == 30
    # 00:00 UTC is 05:30 there; what is before is not known.
    assert np.isnan(folded.values[0, :5, 0]).all()
    assert folded.values[0, 5:, 0].tolist() == list(range(19))


def test_the_minutes_of_a_half_hour_zone_keep_the_counts_of_their_hours() -> None:
    days, attempts = history(MONDAY, 14)

    minutes = expected_volume(attempts, days=days, day=MONDAY, shift=30).minutes

    assert by_hour(np.roll(minutes, -30, axis=0)) == pytest.approx(SHAPE, rel=0.01)


def test_the_hour_doubled_in_autumn_is_averaged_and_the_one_skipped_in_spring_unknown() -> None:
    zone = ZoneInfo("Europe/Berlin")
    autumn = [datetime(2026, 10, 24, 22, tzinfo=UTC) + timedelta(hours=h) for h in range(25)]
    values = np.arange(25.0)[:, None]
    folded = calendar.fold(autumn, values, zone=zone, before=date(2026, 10, 26), days=1)
    assert folded.values[0, 2, 0] == 2.5

    spring = [datetime(2026, 3, 28, 23, tzinfo=UTC) + timedelta(hours=h) for h in range(23)]
    folded = calendar.fold(spring, values[:23], zone=zone, before=date(2026, 3, 30), days=1)
    assert np.isnan(folded.values[0, 2, 0])
    assert folded.values[0, 23, 0] == 22


def test_the_calendar_widens_a_node_by_the_countries_its_traffic_comes_from() -> None:
    tiradentes = date(2026, 4, 21)
    shares = {"BR": 0.3, "DE": 0.7}

    def spread(**labels: str) -> float:
        return calendar.node_spread(labels, tiradentes, home="DE", shares=shares)

    assert spread(country="BR") == calendar.HOLIDAY_SPREAD
    assert spread(country="DE") == 0.0
    assert spread(issuer="any bank") == calendar.HOLIDAY_SPREAD
    assert spread() == pytest.approx(0.3 * calendar.HOLIDAY_SPREAD)


def test_a_country_without_a_known_calendar_has_no_holidays() -> None:
    assert not calendar.is_holiday("XX", date(2026, 12, 25))
