"""Streaming detectors of drops: all nodes at once, minute by minute, never looking ahead.

Only elementwise numpy on whole rows, so the result is bit for bit the same in whatever chunks minutes come.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from domain.anomalies import episodes
from domain.anomalies.episodes import FIRING, LEARNING, PENDING, Transition
from domain.anomalies.evidence import Family, Rates, Volume, Window
from domain.anomalies.state import TUNING, State, Tuning

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

RATES: Final = Rates()
VOLUME: Final = Volume()

# No episode counts as deeper than this part of what was expected (a count of zero has no logarithm).
_DEEPEST: Final = 0.05


@dataclass(frozen=True)
class Judgement:
    """What was expected (rates, or attempts), the score in nats, both (minutes, nodes), and what changed."""

    expected: FloatArray
    score: FloatArray
    transitions: list[Transition]


@dataclass(frozen=True)
class _Minute:
    """One minute of all nodes; `trials` are attempts for rates and left out (None) for volume."""

    at: float
    trials: FloatArray | None
    observed: FloatArray
    season: FloatArray
    calendar: FloatArray


def judge_rates(
    state: State,
    *,
    at: IntArray,
    attempts: FloatArray,
    good: FloatArray,
    expected: FloatArray,
    tuning: Tuning = TUNING,
) -> Judgement:
    """Move `state` through the minutes `at` (since the epoch, rising) of the rates good / attempts.

    Arrays are (minutes, nodes). A minute in which the account sent nothing is NaN in all its nodes;
    `expected` is NaN where no season is known, which leaves the level tracker alone.
    """
    ordinary = np.zeros(attempts.shape[1])
    minutes = [_Minute(float(at[i]), attempts[i], good[i], expected[i], ordinary) for i in range(len(at))]
    return _judge(RATES, state, minutes, tuning)


def judge_volume(
    state: State,
    *,
    at: IntArray,
    attempts: FloatArray,
    expected: FloatArray,
    calendar: FloatArray,
    tuning: Tuning = TUNING,
) -> Judgement:
    """Move `state` through the minutes `at` of attempts; no verdict where `expected` is NaN.

    Arrays are (minutes, nodes); `calendar` is the deviation that holidays add (`calendar.spread`).
    """
    minutes = [_Minute(float(at[i]), None, attempts[i], expected[i], calendar[i]) for i in range(len(at))]
    return _judge(VOLUME, state, minutes, tuning)


def level(state: State, *, tuning: Tuning = TUNING) -> FloatArray:
    """How far each node now is from its season: logits for rates, natural log for volume."""
    return _capped_level(state, tuning)


def _judge(family: Family, state: State, minutes: list[_Minute], tuning: Tuning) -> Judgement:
    expected = np.empty((len(minutes), len(state.phase)))
    score = np.empty_like(expected)
    transitions: list[Transition] = []
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        for i, minute in enumerate(minutes):
            expected[i] = _usual(family, state, minute, tuning)
            transitions += _step(family, state, minute, expected[i], tuning)
            score[i] = np.maximum(state.cusum, state.plain_cusum)
    return Judgement(expected, score, transitions)


def _step(
    family: Family, state: State, minute: _Minute, usual: FloatArray, tuning: Tuning
) -> list[Transition]:
    known = _take_in(state, minute, usual)
    full = state.window_trials >= tuning.window_trials
    closing = known & (full | (state.window_minutes >= tuning.window_minutes))
    learnt = _learnt(state, minute, tuning)
    judged = closing & full & learnt
    window = _window(family, state, minute, tuning)
    _weigh(family, state, window, judged, tuning)
    _track(family, state, window, closing, tuning)
    transitions = episodes.move(
        state, family, window, at=minute.at, known=known, judged=judged, learnt=learnt, tuning=tuning
    )
    _empty(state, closing)
    return transitions


def _usual(family: Family, state: State, minute: _Minute, tuning: Tuning) -> FloatArray:
    """What is expected of this minute; moves the level to a new base where a season comes or goes."""
    seasonal = np.isfinite(minute.season)
    base = np.where(seasonal, family.link(minute.season), family.first_level)
    switched = (seasonal != (state.seasonal > 0)) & np.isfinite(base)
    tracked = switched & (state.level_weight > 0)
    kept = state.base + _level(state, tuning) - base
    state.seasonal = np.where(switched, seasonal, state.seasonal)
    state.level_sum = np.where(tracked, kept * (state.level_weight + _prior(state, tuning)), state.level_sum)
    state.base = np.where(np.isfinite(base), base, state.base)
    return family.unlink(base + _capped_level(state, tuning))


def _prior(state: State, tuning: Tuning) -> FloatArray:
    return np.where(state.seasonal > 0, 1 / tuning.season_deviation**2, 1.0)


def _level(state: State, tuning: Tuning) -> FloatArray:
    return state.level_sum / (state.level_weight + _prior(state, tuning))


def _capped_level(state: State, tuning: Tuning) -> FloatArray:
    """A fall back from an unusual height to the season is no drop; without a season any height counts."""
    now = _level(state, tuning)
    return np.where(state.seasonal > 0, np.minimum(now, tuning.headroom), now)


def _take_in(state: State, minute: _Minute, usual: FloatArray) -> BoolArray:
    """Add the minute to the open windows; returns where there was anything to add."""
    known = np.isfinite(minute.observed) & np.isfinite(usual)
    trials = usual if minute.trials is None else minute.trials
    expected = usual if minute.trials is None else usual * minute.trials
    state.window_began = np.where(known & (state.window_minutes == 0), minute.at, state.window_began)
    state.window_minutes = state.window_minutes + known
    state.window_trials = state.window_trials + np.where(known, trials, 0.0)
    state.window_observed = state.window_observed + np.where(known, minute.observed, 0.0)
    state.window_expected = state.window_expected + np.where(known, expected, 0.0)
    state.seen_trials = state.seen_trials + np.where(known, trials, 0.0)
    first = known & np.isnan(state.first_seen) & (trials > 0)
    state.first_seen = np.where(first, minute.at, state.first_seen)
    return known


def _learnt(state: State, minute: _Minute, tuning: Tuning) -> BoolArray:
    long_enough = minute.at - state.first_seen >= tuning.learning_minutes
    by_itself = long_enough & (state.seen_trials >= tuning.learning_trials)
    learnt: BoolArray = (state.phase != LEARNING) | np.isfinite(minute.season) | by_itself
    return learnt


def _window(family: Family, state: State, minute: _Minute, tuning: Tuning) -> Window:
    unit = family.unit(state.window_expected)
    prior = tuning.dispersion_prior * unit
    dispersion = (state.dispersion_sum + prior * family.first_dispersion) / (state.dispersion_weight + prior)
    return Window(
        trials=state.window_trials,
        observed=state.window_observed,
        expected=state.window_expected,
        dispersion=dispersion,
        calendar=minute.calendar,
    )


def _weigh(family: Family, state: State, window: Window, judged: BoolArray, tuning: Tuning) -> None:
    """Add the window's evidence to the CUSUMs, and remember since when they are above zero."""
    drop = family.material(window, plain=False)
    plain_drop = family.material(window, plain=True)
    deviating = state.phase >= FIRING
    began = judged & (state.cusum == 0) & ~deviating
    plain_began = judged & (state.plain_cusum == 0)
    state.deviating_since = np.where(began, state.window_began, state.deviating_since)
    state.plain_since = np.where(plain_began, state.window_began, state.plain_since)

    # An episode's end is judged against a depth between the least material one and its own: a deep
    # one of a small node ends soon, and one that half recovers does not.
    own = state.deviating_observed / state.deviating_expected
    depth = np.clip(np.sqrt(drop * own), _DEEPEST, drop)
    nats = np.clip(family.nats(window, depth), -tuning.window_nats, tuning.window_nats)
    recovery = np.clip(state.recovery - nats, 0.0, tuning.recovered)
    state.recovery = np.where(judged, np.where(deviating, recovery, 0.0), state.recovery)

    counted = judged & (~deviating | (state.recovery == 0))
    for name in ("trials", "observed", "expected"):
        before = np.where(began, 0.0, getattr(state, f"deviating_{name}"))
        setattr(state, f"deviating_{name}", before + np.where(counted, getattr(window, name), 0.0))
    state.cusum = _added(state.cusum, family.nats(window, drop), tuning.window_nats, judged, tuning)
    state.plain_cusum = _added(
        state.plain_cusum,
        family.nats(window, plain_drop),
        tuning.plain_window_nats,
        judged,
        tuning,
    )


def _added(cusum: FloatArray, nats: FloatArray, most: float, judged: BoolArray, tuning: Tuning) -> FloatArray:
    moved = np.clip(cusum + np.clip(nats, -most, most), 0.0, tuning.saturation)
    return np.where(judged, moved, cusum)


def _track(family: Family, state: State, window: Window, closing: BoolArray, tuning: Tuning) -> None:
    """Let level and dispersion follow the window: at a slow pace, and not at all, during an episode."""
    used = closing & (window.trials > 0)
    calm = state.phase < PENDING
    pace = np.where(used, np.where(calm, 1.0, tuning.slowed), 0.0)
    residual, information = family.surprise(window)
    target = _capped_level(state, tuning) + residual
    information = np.minimum(information, tuning.level_information * state.window_minutes)
    fade = 0.5 ** (state.window_minutes / tuning.level_half_life) - 1
    state.level_sum = state.level_sum + np.where(
        used, pace * (fade * state.level_sum + information * target), 0.0
    )
    state.level_weight = state.level_weight + np.where(
        used, pace * (fade * state.level_weight + information), 0.0
    )
    # What went higher does not linger: when a sales day is over, its height is forgotten at once.
    most = tuning.headroom * (state.level_weight + _prior(state, tuning))
    state.level_sum = np.where(state.seasonal > 0, np.minimum(state.level_sum, most), state.level_sum)
    # On days that the calendar widens, what is unusual says nothing about the node.
    ordinary = used & calm & (window.calendar == 0)
    keep = np.where(ordinary, 0.5 ** (state.window_minutes / tuning.dispersion_half_life), 1.0)
    state.dispersion_sum = keep * state.dispersion_sum + np.where(ordinary, family.excess(window), 0.0)
    state.dispersion_weight = keep * state.dispersion_weight + np.where(
        ordinary, family.unit(window.expected), 0.0
    )


def _empty(state: State, closing: BoolArray) -> None:
    for name in ("minutes", "trials", "observed", "expected"):
        setattr(state, f"window_{name}", np.where(closing, 0.0, getattr(state, f"window_{name}")))
