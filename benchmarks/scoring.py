"""Alarms against labels. What one account is told of one kind of trouble, from the first episode of it
to the last that overlaps, is one alarm; an incident that many accounts feel is still one incident.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median

# What the detectors watch for; an incident of another kind can only be missed.
RATE, VOLUME = "rate", "volume"
FAMILY = {"rate_drop": RATE, "slow_drift": RATE, "traffic_drop": VOLUME}

# So long after an incident's end an alarm may still be about it: the longest window that is judged.
LATE = timedelta(minutes=15)


@dataclass(frozen=True)
class Label:
    """An incident that happened to `cells` in [start, end)."""

    kind: str
    cells: frozenset[int]
    start: datetime
    end: datetime


@dataclass(frozen=True)
class Episode:
    """A node (of `cells`) fired; times are ends of minutes, `closed_at` None where it lasts."""

    account: str
    family: str
    cells: frozenset[int]
    fired_at: datetime
    closed_at: datetime | None = None

    def is_about(self, label: Label) -> bool:
        """Whether it fired in the incident's time, in its family, at a place that it touched."""
        in_time = label.start < self.fired_at <= label.end + LATE
        return in_time and FAMILY.get(label.kind) == self.family and not self.cells.isdisjoint(label.cells)


Alarm = list[Episode]


@dataclass(frozen=True)
class Score:
    """`minutes` holds, for each label, how long after its start it was found; None: missed."""

    minutes: list[float | None]
    true_alarms: int
    false_alarms: int

    @property
    def found(self) -> list[float]:
        return [one for one in self.minutes if one is not None]

    @property
    def precision(self) -> float | None:
        """Of the incidents found and the false alarms, the share that was found."""
        return _ratio(len(self.found), len(self.found) + self.false_alarms)

    @property
    def recall(self) -> float | None:
        return _ratio(len(self.found), len(self.minutes))

    @property
    def f1(self) -> float | None:
        missed = len(self.minutes) - len(self.found)
        return _ratio(2 * len(self.found), 2 * len(self.found) + missed + self.false_alarms)

    @property
    def minutes_to_detect(self) -> float | None:
        """The median over the incidents found."""
        return median(self.found) if self.found else None


def alarms(episodes: Sequence[Episode]) -> list[Alarm]:
    """Join the episodes of one account and family that overlap, in the order in which they fired."""
    joined: list[Alarm] = []
    latest: dict[tuple[str, str], Alarm] = {}
    for one in sorted(episodes, key=lambda one: one.fired_at):
        alarm = latest.get((one.account, one.family), [])
        if any(other.closed_at is None or other.closed_at > one.fired_at for other in alarm):
            alarm.append(one)
        else:
            joined.append([one])
            latest[one.account, one.family] = joined[-1]
    return joined


def score(labels: Sequence[Label], raised: Sequence[Alarm], *, also: Sequence[Label] = ()) -> Score:
    """Hold the alarms against the labels; `also` are incidents that explain alarms, but need not be found."""
    true = [a for a in raised if any(one.is_about(label) for one in a for label in (*labels, *also))]
    minutes = [_minutes_to(label, [one for alarm in true for one in alarm]) for label in labels]
    return Score(minutes, len(true), len(raised) - len(true))


def _minutes_to(label: Label, episodes: Sequence[Episode]) -> float | None:
    waits = [one.fired_at - label.start for one in episodes if one.is_about(label)]
    return min(waits) / timedelta(minutes=1) if waits else None


def _ratio(part: int, whole: int) -> float | None:
    return part / whole if whole else None
