"""What the detectors remember of each node, and the one set of constants they run on."""

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class Tuning:
    """One set for every account. Nats are natural-log likelihood ratios; times are minutes."""

    # A window is the shortest run of minutes in which this much is expected; if it is not reached
    # within `window_minutes`, there is no verdict.
    window_trials: float = 8.0
    window_minutes: float = 15.0
    # A rate without a season is judged after so long and so many attempts.
    learning_minutes: float = 360.0
    learning_trials: float = 2000.0
    # The level tracker: its half-life; the most that a minute may weigh (information), lest a busy
    # noon outweigh the evening; the season's own deviation (link scale); how far above the
    # season the level may still be the measure of a drop; its pace while an episode lasts.
    level_half_life: float = 240.0
    level_information: float = 2.0
    season_deviation: float = 0.15
    headroom: float = 0.2
    slowed: float = 0.1
    # Over-dispersion: the half-life of its estimate, and how many windows its first value weighs.
    dispersion_half_life: float = 720.0
    dispersion_prior: float = 60.0
    # Nats at which a CUSUM alarms, saturates, and shows recovery; the most that one window may add.
    alarm: float = 14.0
    saturation: float = 20.0
    recovered: float = 6.0
    window_nats: float = 4.0
    plain_window_nats: float = 8.0
    # Hysteresis: the least time from pending to firing and from recovering to closed, and for how long
    # a firing node may go without a verdict (too little traffic) before it counts as recovering.
    pending_minutes: float = 2.0
    recovering_minutes: float = 10.0
    unjudged_minutes: float = 180.0


TUNING = Tuning()


@dataclass
class State:
    """Every field is (nodes,) float64. Times are minutes since the epoch; levels on the link scale."""

    # The episode: phase (index of `episodes.Phase`), since when, and when its deviation began.
    phase: FloatArray
    since: FloatArray
    started_at: FloatArray
    unjudged: FloatArray
    # What the node has shown so far (`first_seen` NaN: nothing).
    first_seen: FloatArray
    seen_trials: FloatArray
    # The level relative to `base`, as a discounted sum and its weight (information).
    base: FloatArray
    seasonal: FloatArray
    level_sum: FloatArray
    level_weight: FloatArray
    dispersion_sum: FloatArray
    dispersion_weight: FloatArray
    # The window now open.
    window_began: FloatArray
    window_minutes: FloatArray
    window_trials: FloatArray
    window_observed: FloatArray
    window_expected: FloatArray
    # Evidence of a drop and (in an episode) of its end, since when there is some, and what was seen
    # since then, but for what speaks of recovery.
    cusum: FloatArray
    plain_cusum: FloatArray
    plain_since: FloatArray
    recovery: FloatArray
    deviating_since: FloatArray
    deviating_trials: FloatArray
    deviating_observed: FloatArray
    deviating_expected: FloatArray

    @classmethod
    def fresh(cls, nodes: int) -> "State":
        """Nodes of which nothing is known yet."""
        state = cls(*(np.zeros(nodes) for _ in fields(cls)))
        state.first_seen[:] = np.nan
        return state

    @classmethod
    def from_array(cls, saved: FloatArray) -> "State":
        """The state that `to_array` gave; a wrong shape is a ValueError."""
        if saved.ndim != 2 or len(saved) != len(fields(cls)):
            raise ValueError(f"a saved state has {len(fields(cls))} rows, not the shape {saved.shape}")
        return cls(*np.array(saved, dtype=np.float64))

    def to_array(self) -> FloatArray:
        """(fields, nodes), exact."""
        return np.stack([getattr(self, one.name) for one in fields(self)])

    def extended(self, nodes: int) -> "State":
        """The same state with fresh nodes appended, `nodes` in all."""
        added = State.fresh(nodes - len(self.phase)).to_array()
        return State.from_array(np.concatenate([self.to_array(), added], axis=1))
