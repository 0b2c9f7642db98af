"""The one state machine: learning, normal, pending, firing, recovering, closed. No other hysteresis exists.

LEARNING -> NORMAL -> PENDING -> FIRING <-> RECOVERING -> CLOSED (which is NORMAL again)
"""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from domain.anomalies.evidence import Family, Window
from domain.anomalies.state import State, Tuning

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_NORMAL_95 = 1.96


class Phase(StrEnum):
    """LEARNING: too little is known for a verdict. RECOVERING: over, but not for long enough."""

    LEARNING = "LEARNING"
    NORMAL = "NORMAL"
    PENDING = "PENDING"
    FIRING = "FIRING"
    RECOVERING = "RECOVERING"
    CLOSED = "CLOSED"


# As `State.phase` holds them.
LEARNING, NORMAL, PENDING, FIRING, RECOVERING, CLOSED = range(6)


@dataclass(frozen=True)
class Transition:
    """A node changed its phase at the minute `at` (since the epoch).

    `started_at` is when the deviation began, as estimated; the figures are those from then until now:
    rates with `size` attempts, or attempts with `size` expected, and the 95 % interval in which
    `observed` would lie had nothing changed (NaN where nothing deviated). `score` is in nats.
    """

    node: int
    at: int
    before: Phase
    after: Phase
    started_at: int
    observed: float
    expected: float
    lower: float
    upper: float
    size: float
    score: float
    detector: str


def move(
    state: State,
    family: Family,
    window: Window,
    *,
    at: float,
    known: BoolArray,
    judged: BoolArray,
    learnt: BoolArray,
    tuning: Tuning,
) -> list[Transition]:
    """Move every node's phase by the evidence as it stands; returns what changed, in node order."""
    state.unjudged = np.where(judged, 0.0, state.unjudged + known)
    changed: list[tuple[BoolArray, int, int]] = []

    def enter(where: BoolArray, after: int) -> None:
        if not where.any():
            return
        for before in np.unique(state.phase[where]):
            changed.append((where & (state.phase == before), int(before), after))
        state.phase = np.where(where, float(NORMAL if after == CLOSED else after), state.phase)
        state.since = np.where(where, at, state.since)

    alarm, plain = state.cusum >= tuning.alarm, state.plain_cusum >= tuning.alarm
    half = state.cusum >= tuning.alarm / 2
    resting = ((state.phase == NORMAL) & ~(judged & (half | plain))) | ((state.phase == LEARNING) & ~learnt)
    if resting.all():
        return []
    waited = at - state.since
    quiet = judged & (state.cusum == 0) & (state.plain_cusum == 0)
    recovered = judged & (state.recovery >= tuning.recovered)

    enter((state.phase == LEARNING) & learnt, NORMAL)
    rising = (state.phase == NORMAL) & judged & (half | plain)
    state.started_at = np.where(rising, state.deviating_since, state.started_at)
    enter(rising, PENDING)
    sure = plain | (alarm & (waited >= tuning.pending_minutes) & ~rising)
    firing = (state.phase == PENDING) & judged & sure
    sharp = firing & (state.plain_cusum >= tuning.alarm / 2)
    state.started_at = np.where(sharp, np.maximum(state.started_at, state.plain_since), state.started_at)
    enter(firing, FIRING)
    enter((state.phase == PENDING) & quiet, NORMAL)
    over = recovered | (state.unjudged >= tuning.unjudged_minutes)
    ending = (state.phase == FIRING) & over
    enter(ending, RECOVERING)
    for name in ("cusum", "plain_cusum"):  # only new evidence counts against the recovery
        setattr(state, name, np.where(ending, 0.0, getattr(state, name)))
    relapsing = (state.phase == RECOVERING) & judged & (state.cusum >= tuning.alarm / 2)
    enter(relapsing, FIRING)
    state.recovery = np.where(relapsing, 0.0, state.recovery)
    calm = (state.cusum < tuning.alarm / 4) & (at - state.since >= tuning.recovering_minutes)
    enter((state.phase == RECOVERING) & known & calm, CLOSED)
    if not changed:
        return []
    figures = _figures(state, family, window, tuning)
    transitions = [
        _transition(state, family, figures, int(node), before, after, int(at))
        for where, before, after in changed
        for node in np.flatnonzero(where)
    ]
    for where, _, after in changed:
        if after == CLOSED:
            _forget(state, where)
    return sorted(transitions, key=lambda one: one.node)


def _figures(state: State, family: Family, window: Window, tuning: Tuning) -> FloatArray:
    """(5, nodes): observed, expected, lower, upper, size since the deviation began."""
    deviation = Window(
        trials=state.deviating_trials,
        observed=state.deviating_observed,
        expected=state.deviating_expected,
        dispersion=window.dispersion,
        calendar=window.calendar,
    )
    level_variance = 1 / (state.level_weight + 1 / tuning.season_deviation**2)
    variance = family.variance(deviation) + family.slope(deviation) ** 2 * level_variance
    margin = _NORMAL_95 * np.sqrt(variance)
    unit = family.reported_per(deviation)
    lower = np.maximum(deviation.expected - margin, 0.0) / unit
    upper = np.minimum(deviation.expected + margin, family.most(deviation)) / unit
    return np.stack([deviation.observed / unit, deviation.expected / unit, lower, upper, deviation.trials])


def _transition(
    state: State,
    family: Family,
    figures: FloatArray,
    node: int,
    before: int,
    after: int,
    at: int,
) -> Transition:
    phases = list(Phase)
    in_episode = max(before, after) >= PENDING
    observed, expected, lower, upper, size = (float(figure) for figure in figures[:, node])
    return Transition(
        node=node,
        at=at,
        before=phases[before],
        after=phases[after],
        started_at=int(state.started_at[node]) if in_episode else at,
        observed=observed,
        expected=expected,
        lower=lower,
        upper=upper,
        size=size,
        score=float(max(state.cusum[node], state.plain_cusum[node])),
        detector=family.name,
    )


def _forget(state: State, where: BoolArray) -> None:
    for name in ("cusum", "plain_cusum", "deviating_trials", "deviating_observed", "deviating_expected"):
        setattr(state, name, np.where(where, 0.0, getattr(state, name)))
