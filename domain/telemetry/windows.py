"""Windows of time, cut into intervals of one length; days are those of a time zone, of 23 to 25 hours."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cached_property
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from domain.core.errors import InvalidInput
from domain.core.settings import Settings
from domain.telemetry import steps

MOST_BUCKETS = 100_000
FITTING = 400
"""So many intervals at most has a window whose resolution is chosen for it, unless they are days."""
UTC_ZONE = ZoneInfo("UTC")
_FIRST, _LAST = datetime(1970, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)


class Resolution(StrEnum):
    """Length of an interval."""

    MINUTE = "MINUTE"
    FIVE_MINUTES = "FIVE_MINUTES"
    HOUR = "HOUR"
    DAY = "DAY"

    @property
    def minutes(self) -> int:
        return _MINUTES[self]

    @property
    def step(self) -> timedelta:
        """Of days, that of most."""
        return timedelta(minutes=self.minutes)


_MINUTES: Mapping[Resolution, int] = dict(
    zip(Resolution, (steps.MINUTE, steps.FIVE_MINUTES, steps.HOUR, steps.DAY), strict=True)
)


@dataclass(frozen=True)
class Window:
    """The whole intervals of `resolution` in [from_, until), the first of them being that of `from_`.

    Both ends are rounded down; days begin at the midnights of `zone`. Raises InvalidInput where it holds
    more than MOST_BUCKETS intervals, or lies before 1970 or after 9000.
    """

    from_: datetime
    until: datetime
    resolution: Resolution
    zone: ZoneInfo = UTC_ZONE

    def __post_init__(self) -> None:
        if not (_FIRST <= self.from_ <= _LAST and self.until <= _LAST):
            raise InvalidInput("The window must lie between the years 1970 and 9000.", path=("window",))
        self.require_at_most(MOST_BUCKETS)

    def require_at_most(self, most: int) -> None:
        """Raises InvalidInput where it holds more intervals."""
        # Half a day more, since days are up to 25 hours long.
        if (self.end - self.start) / self.resolution.step > most + 0.5:
            raise InvalidInput(
                f"The window holds more than {most} intervals: take a coarser resolution.", path=("window",)
            )

    @property
    def start(self) -> datetime:
        return self._floor(self.from_)

    @property
    def end(self) -> datetime:
        return max(self._floor(self.until), self.start)

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Where each interval begins, and where the last one ends: epoch seconds, one more than buckets."""
        begin, end = int(self.start.timestamp()), int(self.end.timestamp())
        if self.resolution is Resolution.DAY:
            return np.array(steps.midnights(begin, end, self.zone), np.int64)
        return np.arange(begin, end + 1, self.resolution.minutes * 60)

    @property
    def buckets(self) -> int:
        return len(self.edges) - 1

    def at(self, index: int) -> datetime:
        """When the interval begins, UTC."""
        return datetime.fromtimestamp(int(self.edges[index]), UTC)

    def earlier(self, by: timedelta) -> "Window":
        """The window with as many intervals that begins so long before: for days by the calendar.

        Raises InvalidInput where `by` is not a whole number of intervals, or none.
        """
        if by <= timedelta() or by % self.resolution.step:
            raise InvalidInput("It must be a whole number of the window's intervals.", path=("compareTo",))
        try:
            return replace(self, from_=self._back(self.start, by), until=self._back(self.end, by))
        except (OverflowError, InvalidInput) as error:
            raise InvalidInput("It reaches back too far.", path=("compareTo",)) from error

    @property
    def intervals(self) -> "Intervals":
        return Intervals(self.edges, self.resolution.minutes, self._midnights)

    @property
    def whole(self) -> "Intervals":
        """All of it as one interval."""
        return Intervals(self.edges[[0, -1]], max(self.resolution.minutes, steps.HOUR), self._midnights)

    @property
    def _midnights(self) -> NDArray[np.int64] | None:
        return self.edges if self.resolution is Resolution.DAY else None

    def _floor(self, at: datetime) -> datetime:
        if self.resolution is Resolution.DAY:
            return steps.midnight(at, self.zone)
        length = self.resolution.minutes * 60
        return datetime.fromtimestamp(at.timestamp() // length * length, UTC)

    def _back(self, at: datetime, by: timedelta) -> datetime:
        if self.resolution is not Resolution.DAY:
            return at - by
        return (at.astimezone(self.zone) - by).astimezone(UTC)


@dataclass(frozen=True, eq=False)
class Intervals:
    """The T intervals between T + 1 edges (epoch seconds), made of windows of at most `step` minutes.

    Those of days begin at `midnights`.
    """

    edges: NDArray[np.int64]
    step: int
    midnights: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.edges) - 1

    @property
    def is_empty(self) -> bool:
        return bool(self.edges[0] == self.edges[-1])

    def split(self, most: int) -> "Iterator[tuple[slice, Intervals]]":
        """Runs of at most so many intervals, and where they stand among all."""
        for first in range(0, len(self), max(most, 1)):
            edges = self.edges[first : first + max(most, 1) + 1]
            days = self.midnights
            if days is not None:
                days = days[(days >= edges[0]) & (days <= edges[-1])]
            yield slice(first, first + len(edges) - 1), Intervals(edges, self.step, days)

    def in_minutes(self) -> "Intervals":
        """Their minutes. Raises InvalidInput where they are too many."""
        if self.edges[-1] - self.edges[0] > MOST_BUCKETS * 60:
            raise InvalidInput(
                f"MIN, MAX and LAST are read of minutes, and the window holds more than {MOST_BUCKETS}.",
                path=("window", "aggregation"),
            )
        return Intervals(np.arange(self.edges[0], self.edges[-1] + 1, 60), steps.MINUTE)


def kept_since(settings: Settings, at: datetime) -> Mapping[Resolution, datetime]:
    """Since when each resolution is kept; what is older is dropped."""
    days = settings.keep_minutes, settings.keep_five_minutes, settings.keep_hours, settings.keep_days
    return {one: at - timedelta(days=kept) for one, kept in zip(Resolution, days, strict=True)}


def finest(
    from_: datetime, until: datetime, *, kept: Mapping[Resolution, datetime], before: timedelta = timedelta()
) -> Resolution:
    """The finest resolution of which the window holds at most FITTING intervals, and that is kept.

    `kept` tells since when each is; the window is compared to the one so long `before`. Days, where none of
    the finer ones will do.
    """
    fits = (
        one for one in Resolution if (until - from_) / one.step <= FITTING and kept[one] + before <= from_
    )
    return next(fits, Resolution.DAY)
