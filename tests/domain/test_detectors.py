"""The detectors: causal, count-aware, blind to what does not matter, and the same in any chunks."""

import csv
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domain.anomalies import detectors
from domain.anomalies.detectors import Judgement
from domain.anomalies.episodes import Phase, Transition
from domain.anomalies.state import State

DAY = 1440
DROP_AT = 900


def rates(
    *, rate: np.ndarray, attempts: float, seed: int = 1, season: float | None = 0.9
) -> tuple[State, Judgement]:
    """Judge one node with Poisson attempts and binomial outcomes at `rate` a minute."""
    rng = np.random.default_rng(seed)
    n = rng.poisson(attempts, len(rate))
    good = rng.binomial(n, rate)
    state = State.fresh(1)
    found = detectors.judge_rates(
        state,
        at=np.arange(len(rate)),
        attempts=n[:, None].astype(float),
        good=good[:, None].astype(float),
        expected=np.full((len(rate), 1), np.nan if season is None else season),
    )
    return state, found


def volume(*, mean: np.ndarray, expected: np.ndarray, calendar: float = 0.0, seed: int = 1) -> Judgement:
    rng = np.random.default_rng(seed)
    return detectors.judge_volume(
        State.fresh(1),
        at=np.arange(len(mean)),
        attempts=rng.poisson(mean)[:, None].astype(float),
        expected=expected[:, None],
        calendar=np.full((len(mean), 1), calendar),
    )


def dropping(before: float, after: float, *, length: int = DAY) -> np.ndarray:
    return np.where(np.arange(length) < DROP_AT, before, after)


def fired(found: Judgement) -> list[Transition]:
    return [one for one in found.transitions if one.after is Phase.FIRING and one.before is Phase.PENDING]


def test_an_unmistakable_drop_of_a_rate_fires_within_minutes_and_knows_when_it_began() -> None:
    _, found = rates(rate=dropping(0.9, 0.6), attempts=50)

    [episode] = fired(found)
    assert DROP_AT <= episode.at <= DROP_AT + 5
    assert abs(episode.started_at - DROP_AT) <= 2
    assert episode.observed < episode.lower < episode.expected < episode.upper
    assert episode.expected == pytest.approx(0.9, abs=0.02)
    assert episode.detector == "rate-drop"


def test_a_material_drop_fires_and_a_significant_but_immaterial_one_does_not() -> None:
    _, material = rates(rate=dropping(0.9, 0.8), attempts=200)
    _, immaterial = rates(rate=dropping(0.9, 0.88), attempts=2000)

    assert len(fired(material)) == 1
    assert fired(immaterial) == []


def test_a_rise_never_fires() -> None:
    _, found = rates(rate=dropping(0.6, 0.95), attempts=200, season=0.6)
    assert fired(found) == []


def test_a_quiet_node_is_judged_over_windows_of_up_to_a_quarter_of_an_hour() -> None:
    _, found = rates(rate=dropping(0.9, 0.1), attempts=0.8)

    [episode] = fired(found)
    assert DROP_AT <= episode.at <= DROP_AT + 60


def test_there_is_no_verdict_where_fewer_than_eight_are_expected_in_a_window() -> None:
    _, found = rates(rate=dropping(0.9, 0.0), attempts=0.2)
    assert fired(found) == []

    silent = volume(mean=np.zeros(DAY), expected=np.full(DAY, 0.4))
    assert fired(silent) == []


def test_a_rate_without_a_season_learns_for_six_hours_and_two_thousand_attempts() -> None:
    for attempts, learnt_at in ((100, 360), (3, 2000 / 3)):
        _, found = rates(rate=np.full(DAY, 0.9), attempts=attempts, season=None)
        [change] = found.transitions
        assert (change.before, change.after) == (Phase.LEARNING, Phase.NORMAL)
        assert change.at == pytest.approx(learnt_at, rel=0.1)

    _, found = rates(rate=np.full(DAY, 0.9), attempts=100, season=0.9)
    assert found.transitions[0].at == 0


def test_volume_without_an_expectation_stays_learning() -> None:
    found = volume(mean=dropping(100, 0), expected=np.full(DAY, np.nan))
    assert found.transitions == []


def test_a_traffic_drop_fires_and_a_sales_day_and_its_end_do_not() -> None:
    flat = np.full(DAY, 30.0)
    [episode] = fired(volume(mean=dropping(30, 8), expected=flat))
    assert DROP_AT <= episode.at <= DROP_AT + 5
    assert abs(episode.started_at - DROP_AT) <= 2

    assert fired(volume(mean=dropping(30 * 2.6, 30), expected=flat)) == []


def test_a_holiday_hides_forty_percent_less_but_not_an_outage() -> None:
    flat = np.full(DAY, 50.0)
    assert fired(volume(mean=flat * 0.6, expected=flat, calendar=0.5)) == []
    assert len(fired(volume(mean=dropping(30, 0.5), expected=flat, calendar=0.5))) == 1


def test_minutes_in_which_the_account_sent_nothing_change_nothing() -> None:
    state, _ = rates(rate=np.full(DAY, 0.9), attempts=50)
    before = state.to_array()
    unknown = np.full((60, 1), np.nan)

    found = detectors.judge_rates(
        state,
        at=np.arange(DAY, DAY + 60),
        attempts=unknown,
        good=unknown,
        expected=np.full((60, 1), 0.9),
    )

    assert found.transitions == []
    np.testing.assert_array_equal(state.to_array(), before)


def test_the_level_moves_on_smoothly_when_a_season_becomes_known() -> None:
    state, before = rates(rate=np.full(DAY, 0.8), attempts=50, season=None)

    after = detectors.judge_rates(
        state,
        at=np.array([DAY]),
        attempts=np.array([[50.0]]),
        good=np.array([[40.0]]),
        expected=np.array([[0.79]]),
    )

    assert after.expected[0, 0] == pytest.approx(before.expected[-1, 0], abs=0.005)


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**16), cuts=st.lists(st.integers(1, 119), max_size=6))
def test_minutes_in_any_chunks_give_the_same_bits(seed: int, cuts: list[int]) -> None:
    rng = np.random.default_rng(seed)
    length, nodes = 120, 7
    at = np.arange(length) + 29_000_000
    n = rng.poisson(rng.uniform(0, 60, nodes), (length, nodes)).astype(float)
    good = rng.binomial(n.astype(int), np.where(np.arange(length) < 60, 0.9, 0.5)[:, None]).astype(float)
    missing = rng.random(length) < 0.1
    n[missing], good[missing] = np.nan, np.nan
    season = np.where(rng.random(nodes) < 0.5, 0.88, np.nan) * np.ones((length, 1))
    usual = np.where(rng.random(nodes) < 0.5, 40.0, 3.0) * np.ones((length, 1))
    calendar = np.zeros((length, nodes))

    def judged(edges: list[int]) -> tuple[np.ndarray, list[object]]:
        rate, volume = State.fresh(nodes), State.fresh(nodes)
        out: list[object] = []
        for a, b in pairwise(edges):
            of_rate = detectors.judge_rates(
                rate, at=at[a:b], attempts=n[a:b], good=good[a:b], expected=season[a:b]
            )
            of_volume = detectors.judge_volume(
                volume, at=at[a:b], attempts=n[a:b], expected=usual[a:b], calendar=calendar[a:b]
            )
            for found in (of_rate, of_volume):
                out += [repr(one) for one in found.transitions]
            rate, volume = (State.from_array(one.to_array()) for one in (rate, volume))
        return np.concatenate([rate.to_array(), volume.to_array()]), sorted(map(str, out))

    whole, changes = judged([0, length])
    pieces, changes_in_pieces = judged(sorted({0, length, *cuts}))
    np.testing.assert_array_equal(pieces, whole)
    assert changes_in_pieces == changes


def test_what_is_judged_does_not_depend_on_the_nodes_beside() -> None:
    rng = np.random.default_rng(3)
    n = rng.poisson(30, (200, 13)).astype(float)
    good = rng.binomial(n.astype(int), 0.85).astype(float)
    all_, few = State.fresh(13), State.fresh(2)
    season = np.full_like(n, 0.9)

    detectors.judge_rates(all_, at=np.arange(200), attempts=n, good=good, expected=season)
    detectors.judge_rates(
        few, at=np.arange(200), attempts=n[:, 10:12], good=good[:, 10:12], expected=season[:, :2]
    )

    np.testing.assert_array_equal(few.to_array(), all_.to_array()[:, 10:12])


def test_new_nodes_join_without_touching_the_others() -> None:
    state, _ = rates(rate=np.full(200, 0.9), attempts=50)
    more = state.extended(3)
    np.testing.assert_array_equal(more.to_array()[:, :1], state.to_array())
    np.testing.assert_array_equal(more.to_array()[:, 1:], State.fresh(2).to_array())


def test_a_saved_state_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match="rows"):
        State.from_array(np.zeros((3, 5)))


@pytest.fixture
def real_day() -> tuple[np.ndarray, np.ndarray]:
    """Attempts and good of (authorization, completion) for each minute; NaN where there is no row."""
    folder = os.environ.get("VITALS_TEST_DATA")
    path = Path(folder or "", "payments/cloudwalk/transactions_1.csv")
    if not folder or not path.exists():
        pytest.skip("VITALS_TEST_DATA does not name a folder with payments/cloudwalk/transactions_1.csv")
    ends = {"approved": 0, "denied": 1, "failed": 2, "reversed": 3, "backend_reversed": 3}
    counts = np.full((DAY, 4), np.nan)
    with path.open() as rows:
        for row in csv.DictReader(rows):
            hour, minute = row["time"].split("h ")
            here = counts[int(hour) * 60 + int(minute)]
            here[:] = np.nan_to_num(here)
            if row["status"] in ends:
                here[ends[row["status"]]] += float(row["f0_"])
    attempts = np.stack([counts[:, :3].sum(axis=1), counts.sum(axis=1)], axis=1)
    return attempts, np.repeat(counts[:, :1], 2, axis=1)


def clock(text: str) -> int:
    hour, minute = text.split(":")
    return int(hour) * 60 + int(minute)


def test_the_real_day_has_one_incident_of_the_rates(real_day: tuple[np.ndarray, np.ndarray]) -> None:
    attempts, good = real_day
    found = detectors.judge_rates(
        State.fresh(2),
        at=np.arange(DAY),
        attempts=attempts,
        good=good,
        expected=np.full((DAY, 2), np.nan),
    )

    episodes = fired(found)
    closed = [one for one in found.transitions if one.after is Phase.CLOSED]
    [completion] = [one for one in episodes if one.node == 1 and one.at < clock("19:10")]
    [end] = [one for one in closed if one.node == 1 and one.at < clock("19:10")]
    assert clock("14:25") <= completion.started_at <= clock("14:45")
    assert clock("14:30") <= completion.at <= clock("14:45")
    assert completion.expected == pytest.approx(0.9, abs=0.01)
    # Every episode of the authorization rate until then lies within or touches the completion rate's.
    early = [one for one in episodes if one.at < clock("19:10")]
    assert all(completion.started_at <= one.started_at <= end.at for one in early)
    assert max(one.at for one in closed if one.at < clock("19:30")) <= clock("19:10")
    assert len([one for one in episodes if one.at >= clock("19:10")]) <= 1


def test_the_real_days_volume_is_only_learnt(real_day: tuple[np.ndarray, np.ndarray]) -> None:
    attempts, _ = real_day
    found = detectors.judge_volume(
        State.fresh(2),
        at=np.arange(DAY),
        attempts=attempts,
        expected=np.full((DAY, 2), np.nan),
        calendar=np.zeros((DAY, 2)),
    )
    assert found.transitions == []
