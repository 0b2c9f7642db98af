"""A simulated world as requests: its past as history that is not judged, its present as live traffic.

Every number depends on world, seed and time alone, so what is sent again is the same.
"""

from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from ops.credentials import write_private
from ops.replaying import parcels
from ops.replaying.parcels import MINUTE, Parcel, Written
from ops.simulation import specification, stream
from ops.simulation.schedule import Incident
from ops.simulation.specification import Specification

SOURCE = "simulate"
BACKFILL = {"backfill": "true"}
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LEAD = timedelta(hours=2)
"""So much of the past is sent as live traffic, and judged, where a showcase begins."""
_GAP = timedelta(days=1)
_SHOWN_EVERY = timedelta(hours=3)
_SHOWN = (
    ("rate_drop", {"partner": "demo-acquirer-a"}, 40, 0.6, "declined", "do_not_honor"),
    ("traffic_drop", {"account": "demo-merchant-1"}, 30, 0.8, "failed", None),
    ("rate_drop", {"issuer": "demo-bank-br-1"}, 45, 0.5, "failed", None),
    ("rate_drop", {"account": "demo-merchant-2"}, 30, 0.6, "declined", "insufficient_funds"),
)


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What a simulation has sent: all that lies before `sent_until` (None: its history is not whole yet).

    `began_at` is where its history ends; `is_showcase`: there is an incident every three hours from then.
    """

    profile: str
    seed: int
    began_at: datetime
    days: float
    fine: timedelta | None = None
    is_showcase: bool = False
    sent_until: datetime | None = None

    def save(self, file: Path) -> None:
        write_private(file, msgspec.json.encode(self).decode() + "\n")

    @classmethod
    def load(cls, file: Path) -> "State | None":
        """None where there is no such file; ValueError where it is not of this form."""
        return msgspec.json.decode(file.read_bytes(), type=cls) if file.is_file() else None


class World:
    """The world that a state names; an unknown profile is a ValueError that lists the known ones."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.spec: Specification = specification.load(state.profile)
        self.extra: Sequence[Incident] = showcase(state.began_at) if state.is_showcase else ()

    @property
    def live_from(self) -> datetime:
        """Where the history ends."""
        return self.state.began_at - (LEAD if self.state.is_showcase else timedelta())

    def history(self) -> Iterator[Parcel]:
        """The days before `live_from`; by the hour where they are older than `fine`, else by the minute."""
        state, until = self.state, self.live_from
        start = _hour(until - timedelta(days=state.days))
        return self._past(start, until, fine=state.fine)

    def gap(self, now: datetime) -> Iterator[Parcel]:
        """What was missed while nobody sent, but for the last day: by the hour, as history."""
        sent_until = self.state.sent_until or self.live_from
        if now - sent_until > _GAP:
            yield from self._past(sent_until, now - _GAP, fine=timedelta())

    def live_start(self, now: datetime) -> datetime:
        """From where minutes are sent as live traffic."""
        return max(self.state.sent_until or self.live_from, now - _GAP)

    def live(
        self, now: Callable[[], datetime], *, from_: datetime, span: timedelta | None
    ) -> Iterator[Parcel]:
        """Every minute from then on, for ever; minutes that are over go together, as far as `span`."""
        batch: list[Written] = []
        for one in self._points(from_, None, step=1):
            if batch and one.at != batch[-1].at:
                ahead = one.at + MINUTE > now()
                wide = span is not None and one.at - batch[0].at >= span
                if ahead or wide or len(batch) >= parcels.MOST_POINTS:
                    yield from parcels.packed(batch, span=None)
                    batch = []
            batch.append(one)

    def _past(self, start: datetime, until: datetime, *, fine: timedelta | None) -> Iterator[Parcel]:
        """History of [start, until): hours are whole, and what remains at the ends goes by the minute."""
        coarse = min(until, start + _to_hour(start))
        coarse_end = coarse if fine is None else max(coarse, _hour(until - fine))
        for from_, end, step in ((start, coarse, 1), (coarse, coarse_end, 60), (coarse_end, until, 1)):
            yield from parcels.packed(self._points(from_, end, step=step), span=None, params=BACKFILL)

    def _points(self, start: datetime, end: datetime | None, *, step: int) -> Iterator[Written]:
        days = None if end is None else (end - start) / DAY
        for at, points in stream.simulate(
            self.spec, self.state.seed, start=start, days=days, step=step, extra=self.extra
        ):
            for one in points:
                text = parcels.point(
                    account=one.account,
                    metric=one.metric,
                    at=at,
                    value=one.value,
                    labels=one.labels,
                    source=SOURCE,
                    count=one.count,
                )
                yield Written(at, text)


def showcase(began_at: datetime) -> list[Incident]:
    """An incident every three hours for 60 days, the first one going on at `began_at` for 20 minutes."""
    first = began_at - timedelta(minutes=20)
    shown = []
    for index in range(60 * DAY // _SHOWN_EVERY):
        kind, where, minutes, effect, outcome, code = _SHOWN[index % len(_SHOWN)]
        start = first + index * _SHOWN_EVERY
        end = start + timedelta(minutes=minutes)
        shown.append(Incident(kind, dict(where), start, end, effect, outcome, code))
    return shown


def minute_of(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(second=0, microsecond=0)


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)


def _to_hour(at: datetime) -> timedelta:
    """How long until the next whole hour."""
    return timedelta() if at == _hour(at) else _hour(at) + HOUR - at
