"""Episodes end without flapping, come back from recovering as the same one, and name their cause."""

from itertools import pairwise

import numpy as np
import pytest

from domain.anomalies import detectors
from domain.anomalies.causes import explain_rate
from domain.anomalies.episodes import Phase, Transition
from domain.anomalies.state import TUNING, State


def phases(rate: np.ndarray, *, attempts: float = 100, seed: int = 5) -> list[Transition]:
    rng = np.random.default_rng(seed)
    n = rng.poisson(attempts, len(rate))
    found = detectors.judge_rates(
        State.fresh(1),
        at=np.arange(len(rate)),
        attempts=n[:, None].astype(float),
        good=rng.binomial(n, rate)[:, None].astype(float),
        expected=np.full((len(rate), 1), 0.9),
    )
    return found.transitions


def stretches(*parts: tuple[int, float]) -> np.ndarray:
    return np.concatenate([np.full(length, rate) for length, rate in parts])


def test_an_episode_passes_through_every_phase_in_order() -> None:
    changes = phases(stretches((400, 0.9), (60, 0.82), (200, 0.9)))

    assert [one.after for one in changes] == [
        Phase.NORMAL,
        Phase.PENDING,
        Phase.FIRING,
        Phase.RECOVERING,
        Phase.CLOSED,
    ]
    assert all(one.before is earlier.after for earlier, one in pairwise(changes))
    pending, firing, recovering, closed = (one.at for one in changes[1:])
    assert pending + TUNING.pending_minutes <= firing
    assert 460 <= recovering <= 475
    assert closed == recovering + TUNING.recovering_minutes


def test_all_changes_of_an_episode_carry_the_same_start() -> None:
    _, _, *rest = phases(stretches((400, 0.9), (60, 0.75), (200, 0.9)))
    assert len({one.started_at for one in rest}) == 1
    assert abs(rest[0].started_at - 400) <= 3


def test_a_short_recovery_goes_back_to_firing_without_a_new_episode() -> None:
    changes = phases(stretches((400, 0.9), (60, 0.6), (6, 0.9), (60, 0.6), (200, 0.9)))

    assert [one.after for one in changes[1:]] == [
        Phase.PENDING,
        Phase.FIRING,
        Phase.RECOVERING,
        Phase.FIRING,
        Phase.RECOVERING,
        Phase.CLOSED,
    ]
    assert changes[4].before is Phase.RECOVERING
    assert changes[4].started_at == changes[2].started_at


def test_a_half_recovery_keeps_the_episode() -> None:
    changes = phases(stretches((400, 0.9), (60, 0.5), (200, 0.75)))
    assert Phase.CLOSED not in [one.after for one in changes]


def test_two_drops_far_apart_are_two_episodes() -> None:
    changes = phases(stretches((400, 0.9), (60, 0.6), (300, 0.9), (60, 0.6), (100, 0.9)))
    fired = [one for one in changes if one.before is Phase.PENDING and one.after is Phase.FIRING]
    assert [round(one.started_at, -1) for one in fired] == [400, 760]


def test_the_figures_of_an_end_are_those_of_the_drop() -> None:
    closed = phases(stretches((400, 0.9), (60, 0.6), (200, 0.9)))[-1]

    assert closed.after is Phase.CLOSED
    assert closed.observed == pytest.approx(0.6, abs=0.03)
    assert closed.expected == pytest.approx(0.9, abs=0.01)
    assert closed.size == pytest.approx(6000, rel=0.1)


def test_a_firing_node_that_dries_up_is_closed_after_three_hours_without_a_verdict() -> None:
    rate = stretches((400, 0.9), (60, 0.5), (400, 0.5))
    attempts = np.where(np.arange(len(rate)) < 460, 100.0, 0.0)[:, None]
    rng = np.random.default_rng(2)
    found = detectors.judge_rates(
        State.fresh(1),
        at=np.arange(len(rate)),
        attempts=attempts,
        good=rng.binomial(attempts.astype(int), rate[:, None]).astype(float),
        expected=np.full((len(rate), 1), 0.9),
    )
    *_, recovering, closed = found.transitions
    assert (recovering.after, closed.after) == (Phase.RECOVERING, Phase.CLOSED)
    assert recovering.at == 459 + TUNING.unjudged_minutes
    assert closed.at == recovering.at + TUNING.recovering_minutes


# Total, partner a and b, method card and wallet: each of both labels adds up to the total.
ATTEMPTS = np.array([1000.0, 300, 700, 600, 400])


def test_one_partner_explains_what_the_total_lost() -> None:
    expected = ATTEMPTS * 0.9
    lost = np.array([120.0, 120, 0, 72, 48])
    cause = explain_rate(attempts=ATTEMPTS, good=expected - lost, expected_good=expected)
    assert (cause.node, cause.share) == (1, 1.0)


def test_a_loss_spread_over_all_is_the_totals() -> None:
    expected = ATTEMPTS * 0.9
    cause = explain_rate(attempts=ATTEMPTS, good=expected * 0.85, expected_good=expected)
    assert cause.node == 0


def test_a_deep_drop_of_a_small_value_does_not_explain_a_larger_loss() -> None:
    expected = ATTEMPTS * 0.9
    lost = np.array([120.0, 40, 80, 72, 48])
    cause = explain_rate(attempts=ATTEMPTS, good=expected - lost, expected_good=expected)
    assert cause.node == 0


def test_a_single_value_that_is_all_the_traffic_is_not_blamed() -> None:
    expected = np.array([900.0, 900])
    cause = explain_rate(attempts=np.array([1000.0, 1000]), good=expected * 0.7, expected_good=expected)
    assert cause.node == 0


def test_nodes_without_an_expectation_explain_nothing() -> None:
    expected = np.array([900.0, np.nan, np.nan, np.nan, np.nan])
    cause = explain_rate(attempts=ATTEMPTS, good=ATTEMPTS * 0.5, expected_good=expected)
    assert cause.node == 0
