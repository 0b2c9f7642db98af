"""The simulated world: the same story wherever one begins, labelled, in the words of the metrics."""

from collections import defaultdict
from datetime import UTC, date, datetime, timedelta
from itertools import islice

import numpy as np
import pytest

from domain.anomalies import detectors
from domain.anomalies.episodes import Phase
from domain.anomalies.state import State
from ops.simulation import noise, schedule, specification
from ops.simulation.model import simulated_day
from ops.simulation.schedule import Incident
from ops.simulation.stream import Point, simulate

START = datetime(2026, 3, 3, tzinfo=UTC)
SMALL = specification.load("small")


def totals(points: list[Point]) -> dict[tuple[str, str], float]:
    sums: dict[tuple[str, str], float] = defaultdict(float)
    for point in points:
        sums[point.metric, point.labels.get("outcome", "")] += point.value * (point.count or 1)
    return sums


def test_a_seed_always_tells_the_same_story_and_another_seed_another() -> None:
    def told(seed: int) -> list[tuple[datetime, list[Point]]]:
        return list(islice(simulate(SMALL, seed, start=START), 30))

    assert told(7) == told(7)
    assert told(7) != told(8)


def test_going_on_live_from_any_minute_gives_what_the_whole_run_gave() -> None:
    middle = START + timedelta(hours=23, minutes=50)
    whole = dict(simulate(SMALL, 7, start=START, days=1 + 20 / 1440))

    later = list(simulate(SMALL, 7, start=middle, days=30 / 1440))

    assert [at for at, _ in later] == [middle + timedelta(minutes=m) for m in range(30)]
    assert all(whole[at] == points for at, points in later)


def test_coarser_steps_hold_the_sums_of_the_minutes() -> None:
    minutes = list(simulate(SMALL, 7, start=START, days=5 / 1440))
    [(at, step)] = simulate(SMALL, 7, start=START, days=5 / 1440, step=5)

    assert at == START
    expected = totals([point for _, points in minutes for point in points])
    assert totals(step) == pytest.approx(dict(expected))


def test_a_step_that_does_not_divide_the_day_is_refused() -> None:
    with pytest.raises(ValueError, match="step"):
        next(simulate(SMALL, 7, start=START, step=7))
    with pytest.raises(ValueError, match="step"):
        next(simulate(SMALL, 7, start=START + timedelta(minutes=2), step=5))


def test_points_speak_the_words_of_the_metrics_and_few_series() -> None:
    series: dict[str, set[tuple[str, tuple[tuple[str, str], ...]]]] = defaultdict(set)
    for _, points in simulate(SMALL, 7, start=START, days=1, step=5):
        for point in points:
            series[point.account].add((point.metric, tuple(sorted(point.labels.items()))))
            assert (point.count is None) == (point.metric != "payments.latency")
            assert point.value >= 0
            if point.metric == "payments.amount":
                assert point.value == int(point.value)
                assert point.labels["currency"] in {"BRL", "GBP", "EUR"}
            assert ("code" in point.labels) == (point.labels.get("outcome") == "declined")
    assert {len(one) for one in series.values()} <= set(range(20, 101))
    assert {metric for one in series.values() for metric, _ in one} == {
        "payments.count",
        "payments.amount",
        "payments.latency",
    }


def test_every_account_says_something_in_every_minute() -> None:
    for _, points in simulate(SMALL, 7, start=START, days=60 / 1440):
        assert {point.account for point in points} == {one.id for one in SMALL.accounts}


def test_incidents_are_labelled_and_leave_their_mark() -> None:
    where = {"partner": "demo-acquirer-a"}
    incident = Incident("rate_drop", where, START + timedelta(hours=12), START + timedelta(hours=14), 0.5)
    touched = [cell.has(where) for cell in SMALL.cells]
    usual = simulated_day(SMALL, 7, START.date())
    hit = simulated_day(SMALL, 7, START.date(), extra=[incident])

    during = slice(12 * 60, 14 * 60)
    before, after = (
        day.ends["approved", None][during][:, touched].sum() / day.attempts[during][:, touched].sum()
        for day in (usual, hit)
    )
    assert after == pytest.approx(before * 0.5, rel=0.1)
    np.testing.assert_array_equal(hit.attempts, usual.attempts)


def test_traffic_drops_latency_rises_and_drifts_grow() -> None:
    def incident(kind: str, effect: float) -> Incident:
        return Incident(kind, {"account": "demo-merchant-1"}, START, START + timedelta(hours=8), effect)

    own = [cell.account.id == "demo-merchant-1" for cell in SMALL.cells]
    usual = simulated_day(SMALL, 7, START.date())
    morning = slice(0, 480)
    traffic = simulated_day(SMALL, 7, START.date(), extra=[incident("traffic_drop", 0.6)])
    lost = traffic.attempts[morning][:, own].sum() / usual.attempts[morning][:, own].sum()
    assert lost == pytest.approx(0.4, rel=0.1)
    latency = simulated_day(SMALL, 7, START.date(), extra=[incident("latency_rise", 1.0)])
    rise = latency.latency_ms[morning][:, own].sum() / usual.latency_ms[morning][:, own].sum()
    assert rise == pytest.approx(2.0, rel=0.05)
    drift = simulated_day(SMALL, 7, START.date(), extra=[incident("slow_drift", 0.4)])
    early, late = (
        drift.ends["approved", None][part][:, own].sum() / usual.ends["approved", None][part][:, own].sum()
        for part in (slice(0, 60), slice(420, 480))
    )
    assert early > 0.95
    assert late == pytest.approx(0.62, abs=0.05)


def test_the_schedule_is_the_same_for_any_stretch_that_is_asked_for() -> None:
    def between(start: datetime, days: int) -> list[Incident]:
        return schedule.incidents(SMALL, 7, start=start, end=start + timedelta(days=days))

    month = between(START, 30)
    assert 15 <= len(month) <= 25
    assert {one.kind for one in month} >= {"rate_drop", "traffic_drop"}
    week = between(START + timedelta(days=10), 7)
    assert week == [one for one in month if one in week]
    assert all(any(cell.has(one.where) for cell in SMALL.cells) for one in month)


def test_a_month_has_a_sales_day_and_holidays_are_quiet() -> None:
    days = [date(2026, 1, 1) + timedelta(days=index) for index in range(60)]
    sales = schedule.sales_days(SMALL, 7, days)
    assert 1 <= len(sales) <= 3
    sale = min(sales)
    day, week_before = (simulated_day(SMALL, 7, one) for one in (sale, sale - timedelta(days=7)))
    assert day.attempts[180:].sum() / week_before.attempts[180:].sum() == pytest.approx(2.6, rel=0.35)

    german = [cell.country == "DE" for cell in SMALL.cells]
    unity = date(2025, 10, 3)  # a Friday
    holiday, ordinary = (simulated_day(SMALL, 7, one) for one in (unity, unity - timedelta(days=7)))
    assert holiday.attempts[:, german].sum() / ordinary.attempts[:, german].sum() < 0.8


def test_the_catalogue_names_all_that_the_points_name() -> None:
    catalogue = SMALL.catalogue
    accounts = [one["external_id"] for one in catalogue["accounts"]]
    partners = {one["code"] for one in catalogue["partners"]}
    assert {one.id for one in SMALL.accounts} < set(accounts)
    for one in catalogue["accounts"]:
        assert one["parent"] is None or accounts.index(one["parent"]) < accounts.index(one["external_id"])
    assert {cell.partner for cell in SMALL.cells} <= partners
    for account in SMALL.accounts:
        shares = [
            one["traffic_share"]
            for one in catalogue["dependencies"]
            if one["account"] == account.id and "partner" in one
        ]
        assert sum(shares) == pytest.approx(1, abs=1e-3)


def test_an_unknown_world_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="small, default"):
        specification.load("tiny")


def test_slow_noise_has_the_deviation_it_was_asked_for_and_no_seam_at_midnight() -> None:
    names = [f"name {index}" for index in range(200)]
    today, tomorrow = (
        noise.autoregressive(1, names, day, correlation=0.97, deviation=0.1) for day in (20_000, 20_001)
    )
    assert today.std() == pytest.approx(0.1, rel=0.1)
    steps = np.diff(today[::5], axis=0).std()
    seam = (tomorrow[0] - today[-1]).std()
    assert seam == pytest.approx(steps, rel=0.2)


def test_the_detector_finds_a_simulated_drop_and_its_start() -> None:
    begins = START + timedelta(hours=15)
    incident = Incident("rate_drop", {"partner": "demo-acquirer-a"}, begins, begins + timedelta(hours=2), 0.4)
    own = [cell.account.id == "demo-merchant-1" for cell in SMALL.cells]
    day = simulated_day(SMALL, 11, START.date(), extra=[incident])
    attempts, approved = (
        counts[:, own].sum(axis=1, keepdims=True) for counts in (day.attempts, day.ends["approved", None])
    )

    found = detectors.judge_rates(
        State.fresh(1),
        at=np.arange(1440),
        attempts=attempts,
        good=approved,
        expected=np.full((1440, 1), np.nan),
    )

    fired = [one for one in found.transitions if (one.before, one.after) == (Phase.PENDING, Phase.FIRING)]
    assert any(abs(one.started_at - 900) <= 5 and one.at <= 910 for one in fired)
