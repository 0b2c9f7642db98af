"""When something happens in a simulated world: incidents (labelled), sales days, holidays (traps).

Time is cut into slots since the epoch, each drawn from (seed, slot): any stretch has the same
happenings wherever the simulation starts.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from ops.simulation.specification import Specification, named_rng

_EPOCH = date(1970, 1, 1)
_MARGIN = timedelta(minutes=90)


@dataclass(frozen=True)
class Incident:
    """A label: what happened to the cells that have all of `where`, in [start, end) (UTC).

    `effect`: see the specification; `outcome` and `code`: how the payments lost to it end.
    """

    kind: str
    where: dict[str, str]
    start: datetime
    end: datetime
    effect: float
    outcome: str = "failed"
    code: str | None = None


def incidents(spec: Specification, seed: int, *, start: datetime, end: datetime) -> list[Incident]:
    """The labelled incidents that touch [start, end), in time order."""
    every = timedelta(hours=spec.world["incident_every_hours"])
    epoch = datetime(1970, 1, 1, tzinfo=UTC)
    first, last = (start - epoch) // every, (end - epoch) // every
    drawn = [_drawn(spec, seed, slot, epoch + slot * every, every) for slot in range(first, last + 1)]
    return [one for one in drawn if one.start < end and one.end > start]


def sales_days(spec: Specification, seed: int, days: Iterable[date]) -> set[date]:
    """Which of `days` are sales days: one in each `every_days` since the epoch."""
    every = spec.effects["traps"]["sales_day"]["every_days"]
    return {
        day
        for day in days
        if (day - _EPOCH).days % every
        == named_rng(seed, "sales", (day - _EPOCH).days // every).integers(every)
    }


def _drawn(spec: Specification, seed: int, slot: int, begins: datetime, every: timedelta) -> Incident:
    rng = named_rng(seed, "incident", slot)
    kinds = spec.effects["incidents"]["kinds"]
    weights = np.array([kind["weight"] for kind in kinds], dtype=np.float64)
    kind = kinds[rng.choice(len(kinds), p=weights / weights.sum())]
    lasts = timedelta(minutes=int(rng.integers(kind["minutes"][0], kind["minutes"][1] + 1)))
    room = max(0, int((every - lasts - _MARGIN) / timedelta(minutes=1)))
    start = begins + timedelta(minutes=int(rng.integers(room + 1)))
    ends = spec.effects["incidents"]["ends_as"]
    return Incident(
        kind=kind["kind"],
        where=_where(spec, rng, kind["at"]),
        start=start,
        end=start + lasts,
        effect=float(rng.uniform(*kind["effect"])),
        **ends[rng.integers(len(ends))],
    )


def _where(spec: Specification, rng: np.random.Generator, choices: Sequence[Sequence[str]]) -> dict[str, str]:
    """A place with enough traffic: of 50 drawn, the first above the least, else the busiest."""
    least = spec.effects["incidents"]["least_attempts_per_minute"]
    best: tuple[float, dict[str, str]] = (-1.0, {})
    for _ in range(50):
        names = choices[int(rng.integers(len(choices)))]
        cell = spec.cells[int(rng.integers(len(spec.cells)))]
        where = {name: cell.name_of(name) for name in names}
        busy = sum(c.share * c.account.attempts_per_day for c in spec.cells if c.has(where)) / 1440
        if busy >= least:
            return where
        best = max(best, (busy, where), key=lambda one: one[0])
    return best[1]
