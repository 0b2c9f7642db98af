"""The payments benchmark: what counts as found, as false and as one alarm; expectations never look ahead."""

from datetime import UTC, datetime, timedelta

import numpy as np

from benchmarks import scoring
from benchmarks.expected import Season
from benchmarks.scoring import LATE, RATE, VOLUME, Episode, Label, Score
from benchmarks.watched import Count, Platform, hardened
from ops.simulation import schedule, specification

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SMALL = specification.load("small")


def after(minutes: float) -> datetime:
    return NOON + timedelta(minutes=minutes)


def label(kind: str = "rate_drop", *cells: int, minutes: float = 60) -> Label:
    return Label(kind, frozenset(cells or (1,)), NOON, after(minutes))


def episode(
    fired: float, closed: float | None = None, *, account: str = "a", family: str = RATE, cell: int = 1
) -> Episode:
    end = None if closed is None else after(closed)
    return Episode(account, family, frozenset({cell}), after(fired), end)


def test_an_incident_is_found_once_however_many_accounts_are_told_of_it() -> None:
    raised = scoring.alarms([episode(7, account="a"), episode(9, account="b")])

    assert scoring.score([label()], raised) == Score([7.0], true_alarms=2, false_alarms=0)


def test_an_alarm_elsewhere_or_of_another_family_or_at_another_time_is_false() -> None:
    late = LATE / timedelta(minutes=1)
    elsewhere, other = episode(5, cell=2, account="a"), episode(5, family=VOLUME, account="b")
    before, behind = episode(0, account="c"), episode(60 + late + 1, account="d")

    raised = scoring.alarms([elsewhere, other, before, behind])

    assert scoring.score([label()], raised) == Score([None], true_alarms=0, false_alarms=4)


def test_an_incident_of_latency_is_missed_since_nothing_watches_it() -> None:
    raised = scoring.alarms([episode(5)])

    assert scoring.score([label("latency_rise")], raised) == Score([None], true_alarms=0, false_alarms=1)


def test_an_incident_that_the_judged_days_cut_off_explains_an_alarm_and_need_not_be_found() -> None:
    assert scoring.score([], scoring.alarms([episode(5)]), also=[label()]) == Score([], 1, 0)


def test_overlapping_episodes_of_one_account_and_family_are_one_alarm() -> None:
    first, second, third = episode(0, 10), episode(5, 20), episode(12, 15)
    later, other = episode(20, 30), episode(5, 20, account="b")

    raised = scoring.alarms([later, third, second, first, other])

    assert raised == [[first, second, third], [other], [later]]


def test_precision_counts_incidents_against_false_alarms() -> None:
    score = Score([4.0, None, 8.0], true_alarms=9, false_alarms=2)

    assert (score.precision, score.recall, score.minutes_to_detect) == (2 / 4, 2 / 3, 6.0)
    assert score.f1 == 4 / 7


def test_a_hard_world_has_the_same_incidents_with_less_effect() -> None:
    until = NOON + timedelta(days=20)
    usual, hard = (schedule.incidents(spec, 3, start=NOON, end=until) for spec in (SMALL, hardened(SMALL)))

    assert [(one.kind, one.where, one.start) for one in hard] == [(o.kind, o.where, o.start) for o in usual]
    assert all(one.effect < other.effect for one, other in zip(hard, usual, strict=True))


def test_what_is_expected_of_a_local_day_does_not_depend_on_its_own_hours() -> None:
    nodes = Platform(SMALL, 3).nodes
    start = datetime(2026, 11, 1, tzinfo=UTC)
    constant = np.full((1440, len(nodes)), 10.0)
    changed = constant.copy()
    changed[23 * 60 :] = 1_000.0  # in Berlin the next day has begun
    usual = dict.fromkeys(
        ("payments.attempted", "authorization_rate", "completion_rate"), Count(constant, constant)
    )
    other = dict.fromkeys(usual, Count(changed, constant))

    def expected(last: dict[str, Count]) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        season = Season(nodes)
        for day in range(9):
            season.learn(start + timedelta(days=day), last if day == 8 else usual)
        return season.expect(start + timedelta(days=8)).of["payments.attempted"]

    berlin = [column for column, node in enumerate(nodes) if node.account.time_zone == "Europe/Berlin"]
    assert np.array_equal(expected(usual)[:, berlin], expected(other)[:, berlin])
