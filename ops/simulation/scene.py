"""One UTC day of a simulated world before chance: who sells, where it is night, what is happening."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property, lru_cache
from zoneinfo import ZoneInfo

import holidays
import numpy as np
from numpy.typing import NDArray

from ops.simulation import noise, schedule
from ops.simulation.schedule import Incident
from ops.simulation.specification import Specification

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_EPOCH = date(1970, 1, 1)
_DAY = timedelta(days=1)


@dataclass(frozen=True)
class Scene:
    """What the numbers of a day are drawn from; arrays are (1440, cells) unless said otherwise."""

    spec: Specification
    seed: int
    day: date
    extra: Sequence[Incident] = ()

    @property
    def number(self) -> int:
        """Days since the epoch."""
        return (self.day - _EPOCH).days

    @property
    def midnight(self) -> datetime:
        return datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)

    @cached_property
    def incidents(self) -> list[Incident]:
        """Those of the schedule and the extra ones that touch this day."""
        end = self.midnight + _DAY
        scheduled = schedule.incidents(self.spec, self.seed, start=self.midnight, end=end)
        return scheduled + [one for one in self.extra if one.end > self.midnight and one.start < end]

    @cached_property
    def sales(self) -> FloatArray:
        """(1440, 1): how far (0..1) a sales day is on; it ramps up from midnight and down after the next."""
        days = schedule.sales_days(self.spec, self.seed, (self.day - _DAY, self.day))
        ramp = np.arange(1440) / self.spec.effects["traps"]["sales_day"]["ramp_minutes"]
        rising = np.clip(ramp, 0, 1) if self.day in days else np.zeros(1440)
        falling = np.clip(1 - ramp, 0, 1) if self.day - _DAY in days else np.zeros(1440)
        result: FloatArray = np.maximum(rising, falling)[:, None]
        return result

    def extent(self, incident: Incident) -> FloatArray:
        """How much (0..1) of the incident's effect is felt; a slow drift grows until its end."""
        minutes = np.arange(1440) - (incident.start - self.midnight) / timedelta(minutes=1)
        lasts = (incident.end - incident.start) / timedelta(minutes=1)
        on = (minutes >= 0) & (minutes < lasts)
        size = np.clip(minutes / lasts, 0, 1) if incident.kind == "slow_drift" else np.ones(1440)
        touched = np.array([cell.has(incident.where) for cell in self.spec.cells])
        extent: FloatArray = (on * size)[:, None] * touched
        return extent

    def slow_noise(self, what: str) -> FloatArray:
        """The slow noise (log or logit) of all that each cell belongs to."""
        effects, total = self.spec.effects["noise"], np.zeros((1440, len(self.spec.cells)))
        for kind, deviation in effects[what].items():
            of_cells = [cell.name_of(kind) for cell in self.spec.cells]
            names = sorted(set(of_cells))
            paths = noise.autoregressive(
                self.seed,
                [f"{what} {kind} {name}" for name in names],
                self.number,
                correlation=effects["correlation"],
                deviation=deviation,
            )
            total += paths[:, [names.index(name) for name in of_cells]]
        return total

    def local(self, country: str) -> tuple[FloatArray, BoolArray, BoolArray]:
        """(1440,) each: the hour of the day there, whether it is a weekend, whether a holiday."""
        zone = ZoneInfo(self.spec.world["countries"][country]["time_zone"])
        offset = (self.midnight + _DAY / 2).astimezone(zone).utcoffset() or timedelta()
        hours = np.arange(1440) / 60 + offset / timedelta(hours=1)
        shift = np.floor(hours / 24).astype(np.int64)
        days = {int(by): self.day + int(by) * _DAY for by in np.unique(shift)}
        weekend = np.array([days[int(by)].weekday() >= 5 for by in shift])
        free = np.array([days[int(by)] in _holidays(country, days[int(by)].year) for by in shift])
        return hours % 24, weekend, free


@lru_cache(maxsize=128)
def _holidays(country: str, year: int) -> frozenset[date]:
    return frozenset(holidays.country_holidays(country, years=year))
