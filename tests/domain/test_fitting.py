"""Bands are honest, within physical bounds, in local time, and say what they rest on."""

import csv
import gzip
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from domain.forecasts.bands import Bands, History
from domain.forecasts.fitting import NotEnoughHistory, fit

Floats = NDArray[np.float64]
HORIZON = 48
MONDAY = datetime(2026, 9, 7, tzinfo=UTC)


def hours(days: float, *, start: datetime = MONDAY) -> NDArray[np.int64]:
    return int(start.timestamp()) + 3600 * np.arange(int(days * 24), dtype=np.int64)


def payments(at: NDArray[np.int64], *, level: float) -> Floats:
    """Expected payments an hour: a cycle of the day, less on weekends."""
    hour, weekday = at // 3600 % 24, (at // 86_400 + 3) % 7
    return np.asarray(level * np.exp(0.6 * np.sin(2 * np.pi * (hour - 8) / 24) - 0.3 * (weekday >= 5)))


def bands(at: NDArray[np.int64], total: Floats, good: Floats | None = None, **place: str) -> Bands:
    """Fitted to the hours before the last HORIZON."""
    history = History(
        at=at[:-HORIZON],
        total=total[:-HORIZON],
        good=None if good is None else good[:-HORIZON],
        time_zone=place.get("time_zone", "UTC"),
        country=place.get("country", "BR"),
    )
    return fit(history, trained_until=int(at[-HORIZON]), horizon_hours=HORIZON)


def coverage(found: Bands, observed: Floats) -> tuple[float, float]:
    inner = (observed >= found.lower80) & (observed <= found.upper80)
    outer = (observed >= found.lower95) & (observed <= found.upper95)
    return float(inner.mean()), float(outer.mean())


def assert_ordered(found: Bands, *, most: float = np.inf) -> None:
    stack = np.array([found.lower95, found.lower80, found.yhat, found.upper80, found.upper95])
    assert stack.shape == (5, HORIZON)
    assert (np.diff(stack, axis=0) >= 0).all()
    assert stack.min() >= 0
    assert stack.max() <= most


@pytest.mark.parametrize(("days", "level", "error"), [(16, 200, 0.06), (30, 200, 0.04), (25, 3, 0.2)])
def test_counts_are_forecast_and_their_bands_cover_what_they_say(
    days: int, level: float, error: float
) -> None:
    random = np.random.default_rng(days)
    at = hours(days)
    expected = payments(at, level=level)
    runs = [random.poisson(expected).astype(np.float64) for _ in range(4)]
    found = [bands(at, total) for total in runs]
    for one in found:
        assert_ordered(one)
        assert one.model == "prophet"
        assert one.start == at[-HORIZON]
    truth = expected[-HORIZON:]
    off = np.mean([np.abs(np.array(one.yhat) - truth).mean() / truth.mean() for one in found])
    assert off < error
    covered = np.mean([coverage(one, run[-HORIZON:]) for one, run in zip(found, runs, strict=True)], axis=0)
    assert 0.68 <= covered[0] <= 0.92
    assert 0.88 <= covered[1] <= 0.99


@pytest.mark.parametrize("level", [300, 6])
def test_rates_are_forecast_from_counts_and_small_hours_have_wide_bands(level: float) -> None:
    random = np.random.default_rng(7)
    at = hours(23)
    rate = 1 / (1 + np.exp(-(2.2 + 0.3 * np.sin(2 * np.pi * (at // 3600) / 24))))
    total = random.poisson(payments(at, level=level)).astype(np.float64)
    good = random.binomial(total.astype(np.int64), rate).astype(np.float64)
    found = bands(at, total, good)
    assert_ordered(found, most=1.0)
    assert np.abs(np.array(found.yhat) - rate[-HORIZON:]).mean() < 0.02
    width = np.mean(np.array(found.upper95) - found.lower95)
    assert 0.03 < width < 0.10 if level == 300 else width > 0.3
    seen = total[-HORIZON:] > 0
    observed = np.divide(good[-HORIZON:], total[-HORIZON:], out=np.full(HORIZON, 0.9), where=seen)
    inner, outer = coverage(found, observed)
    assert inner >= 0.70
    assert outer >= 0.88


def test_growth_is_followed() -> None:
    at = hours(30)
    growing = payments(at, level=200) * np.exp(0.02 * np.arange(len(at)) / 24)
    found = bands(at, np.random.default_rng(3).poisson(growing).astype(np.float64))
    assert np.mean(found.yhat) == pytest.approx(growing[-HORIZON:].mean(), rel=0.05)


def test_yesterdays_incident_is_not_expected_again() -> None:
    at = hours(30)
    expected = payments(at, level=200)
    total = np.random.default_rng(4).poisson(expected).astype(np.float64)
    total[-HORIZON - 20 : -HORIZON - 8] *= 0.3
    found = bands(at, total)
    assert np.mean(found.yhat) == pytest.approx(expected[-HORIZON:].mean(), rel=0.1)


def test_a_peak_at_local_noon_stays_there_when_clocks_go_back() -> None:
    # New York leaves daylight saving time on 1 November 2026: noon moves from 16:00 to 17:00 UTC.
    at = hours(24, start=datetime(2026, 10, 9, 4, tzinfo=UTC))
    local_hour = (at // 3600 - np.where(at < datetime(2026, 11, 1, 6, tzinfo=UTC).timestamp(), 4, 5)) % 24
    total = np.where(local_hour == 12, 400.0, np.where(np.abs(local_hour - 12) <= 2, 150.0, 50.0))
    found = bands(at, total, time_zone="America/New_York", country="US")
    peaks = [datetime.fromtimestamp(found.start + 3600 * (day + np.argmax(found.yhat[day : day + 24])), UTC)
             for day in (0, 24)]  # fmt: skip
    assert peaks == [datetime(2026, 10, 31, 16, tzinfo=UTC), datetime(2026, 11, 1, 17, tzinfo=UTC)]
    again = bands(hours(30, start=datetime(2026, 10, 9, 4, tzinfo=UTC)), np.resize(total, 30 * 24),
                  time_zone="America/New_York", country="US")  # fmt: skip
    assert again.model == "prophet"


def test_unknown_hours_are_not_zeros() -> None:
    at = hours(23)
    total = np.random.default_rng(5).poisson(payments(at, level=200)).astype(np.float64)
    total[100:140] = np.nan
    found = bands(np.delete(at, slice(200, 230)), np.delete(total, slice(200, 230)))
    assert np.mean(found.yhat) == pytest.approx(payments(at, level=200)[-HORIZON:].mean(), rel=0.1)


def test_a_constant_series_is_carried_forward_with_a_band_around_it() -> None:
    found = bands(hours(20), np.full(20 * 24, 50.0))
    assert found.model == "mean"
    assert found.yhat == [pytest.approx(50.0)] * HORIZON
    assert found.remarks == ["The series is constant: its value is carried forward."]
    assert_ordered(found)
    assert found.upper80[0] > 51
    assert found.lower80[0] < 49


def test_few_days_give_the_hour_of_the_day_and_fewer_a_mean() -> None:
    at = hours(6)
    total = np.random.default_rng(6).poisson(payments(at, level=200)).astype(np.float64)
    days = bands(at, total)
    assert days.model == "seasonal_naive"
    assert days.remarks == ["Only 96 hours are known: this is the mean of the same hour of the days before."]
    at = at[: HORIZON + 5]
    hardly = bands(at, total[: len(at)])
    assert hardly.model == "mean"
    assert hardly.remarks == ["Only 5 hours are known, too few for a cycle of the day: this is their mean."]
    assert hardly.upper80[0] / hardly.yhat[0] > 1.5
    for one in (days, hardly):
        assert_ordered(one)


def test_nothing_known_is_refused() -> None:
    at = hours(10)
    with pytest.raises(NotEnoughHistory, match="There is no hour with data"):
        bands(at, np.full(len(at), np.nan))
    with pytest.raises(NotEnoughHistory):
        bands(at, np.zeros(len(at)), np.zeros(len(at)))


def test_holidays_ahead_that_the_history_cannot_teach_are_remarked() -> None:
    at = hours(18, start=datetime(2026, 12, 9, tzinfo=UTC))  # Christmas is in the two days ahead
    total = np.random.default_rng(8).poisson(payments(at, level=50)).astype(np.float64)
    [remark] = bands(at, total, country="US").remarks
    assert (
        remark == "A public holiday (Christmas Day, 2026-12-25) lies ahead, and none such is in the history."
    )
    assert bands(at, total, country="ZZ").remarks == [
        "No calendar of public holidays is known for the country ZZ."
    ]


def test_a_holiday_in_the_history_is_not_taken_for_the_usual_level() -> None:
    at = hours(21, start=datetime(2026, 11, 10, tzinfo=UTC))  # Thanksgiving falls on 26 November
    total = np.random.default_rng(9).poisson(payments(at, level=200)).astype(np.float64)
    total[16 * 24 : 17 * 24] *= 0.1
    found = bands(at, total, country="US")
    assert found.settings["holidays"] == ["Thanksgiving Day", "Veterans Day"]
    assert np.mean(found.yhat) == pytest.approx(payments(at, level=200)[-HORIZON:].mean(), rel=0.15)


@pytest.fixture
def m4_hourly() -> list[tuple[Floats, Floats]]:
    folder = os.environ.get("VITALS_TEST_DATA")
    if folder is None:
        pytest.skip("VITALS_TEST_DATA is not set")

    def rows(name: str) -> list[Floats]:
        with gzip.open(Path(folder) / "forecasting/m4_hourly" / name, "rt") as file:
            return [np.array([float(one) for one in row[1:] if one]) for row in list(csv.reader(file))[1:]]

    return list(zip(rows("Hourly-train.csv.gz"), rows("Hourly-test.csv.gz"), strict=True))[::15]


def test_real_hourly_series_are_forecast_better_than_by_repeating_a_day(
    m4_hourly: list[tuple[Floats, Floats]],
) -> None:
    errors: list[Any] = []
    for train, test in m4_hourly:
        at = hours((len(train) + HORIZON) / 24)
        found = bands(at, np.concatenate([train, test]), country="US")
        scale = np.abs(train[24:] - train[:-24]).mean()
        naive = np.abs(np.tile(train[-24:], 2) - test).mean() / scale
        errors.append((np.abs(np.array(found.yhat) - test).mean() / scale, naive, *coverage(found, test)))
    ours, naive, inner, outer = np.median(errors, axis=0)
    assert ours < naive
    assert 0.65 <= inner <= 0.95
    assert outer >= 0.85
