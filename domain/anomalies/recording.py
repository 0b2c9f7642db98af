"""Writes down what the detectors found: the phase of each watched series, and its episodes."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import select
from sqlalchemy.dialects.postgresql import Insert, insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.anomalies.detectors import Judgement
from domain.anomalies.episodes import Phase, Transition
from domain.anomalies.models import Anomaly, Direction, Watch
from domain.anomalies.saved import Nodes
from domain.catalog.models import Account
from domain.core import events
from domain.core.ids import uuid7
from domain.telemetry.models import Series

_95 = 1.96
_MINUTE = timedelta(minutes=1)
Floats = NDArray[np.float64]
LEARNING_REMARKS = {
    True: "A rate is judged after 6 hours and 2,000 payments of its own, or 3 whole days.",
    False: "Volume is judged after 7 whole days of history.",
}


class Recorder:
    """Collects what a stretch of minutes changed for one account, then writes it in one go.

    `usual` is, of each episode that opened, what was expected of every series at that minute.
    """

    def __init__(
        self, account: Account, series: Sequence[Series], *, open_: Sequence[Anomaly], known: set[UUID]
    ) -> None:
        self.account_id = account.id
        self._series = {one.id: one for one in series}
        self._known = known
        self._open = {one.series_id: one for one in open_}
        self.opened: list[Anomaly] = []
        self._events: list[tuple[datetime, str, Anomaly]] = []
        self._watches: dict[UUID, tuple[Phase, datetime]] = {}
        self.usual: dict[UUID, dict[UUID, float]] = {}

    @classmethod
    async def load(cls, session: AsyncSession, account: Account, series: Sequence[Series]) -> "Recorder":
        found = await session.scalars(
            select(Anomaly).where(Anomaly.account_id == account.id, Anomaly.ended_at.is_(None))
        )
        known = await session.scalars(select(Watch.series_id).where(Watch.account_id == account.id))
        return cls(account, series, open_=found.all(), known=set(known))

    def take(
        self, nodes: Nodes, found: Judgement, epoch: NDArray[np.int64], *, expected: Floats, observed: Floats
    ) -> None:
        """Take in the judgement of `nodes` over the minutes `epoch`.

        `expected` and `observed` are (minutes, nodes): good payments for rates, attempts for volume.
        """
        since: dict[int, int] = {node: 0 for node, one in enumerate(nodes.series_ids) if one in self._open}
        for change in sorted(found.transitions, key=lambda one: one.at):
            series_id = nodes.series_ids[change.node]
            index = int(np.searchsorted(epoch, change.at, side="right"))
            began = since.pop(change.node, None)
            if began is not None:
                self._grow(series_id, expected[began:index, change.node] - observed[began:index, change.node])
            self._change(series_id, change)
            if (opened := self._open.get(series_id)) is not None and opened.detected_at == _time(
                change.at
            ) + _MINUTE:
                self.usual[opened.id] = dict(zip(nodes.series_ids, found.expected[index - 1], strict=True))
            if series_id in self._open:
                since[change.node] = index
        for node, began in since.items():
            self._grow(nodes.series_ids[node], expected[began:, node] - observed[began:, node])
        for series_id in nodes.series_ids:
            if series_id not in self._known and series_id not in self._watches and len(epoch):
                self._watches[series_id] = Phase.LEARNING, _time(int(epoch[0]))

    def _change(self, series_id: UUID, change: Transition) -> None:
        at = _time(change.at)
        phase = Phase.NORMAL if change.after is Phase.CLOSED else change.after
        self._watches[series_id] = phase, at
        if change.after is Phase.FIRING and change.before is Phase.PENDING:
            self._begin(series_id, change, at)
        elif (anomaly := self._open.get(series_id)) is not None:
            anomaly.phase = change.after
            if change.after is Phase.RECOVERING:
                _measure(anomaly, change)
            if change.after is Phase.CLOSED:
                anomaly.ended_at = at + _MINUTE
                self._events.append((anomaly.ended_at, "anomaly.closed", self._open.pop(series_id)))

    def _begin(self, series_id: UUID, change: Transition, at: datetime) -> None:
        anomaly = Anomaly(
            id=uuid7(),
            account_id=self.account_id,
            series_id=series_id,
            phase=Phase.FIRING,
            direction=Direction.DOWN,
            started_at=_time(change.started_at),
            detected_at=at + _MINUTE,
            detector=change.detector,
            cause=self._series[series_id].labels,
        )
        _measure(anomaly, change)
        self._open[series_id] = anomaly
        self.opened.append(anomaly)
        self._events.append((anomaly.detected_at, "anomaly.opened", anomaly))

    def _grow(self, series_id: UUID, missing: Floats) -> None:
        """Add what fell short since the figures were measured; variance grows by as much (Poisson)."""
        anomaly = self._open[series_id]
        if anomaly.phase is Phase.FIRING:
            added = float(np.nansum(missing))
            anomaly.shortfall += added
            anomaly.shortfall_variance += abs(added)

    async def save(self, session: AsyncSession) -> None:
        """Write phases and episodes; what opened and closed is recorded in the order of event time."""
        if self._watches:
            await session.execute(_upsert(), [self._watch(*item) for item in self._watches.items()])
        session.add_all(self.opened)
        await session.flush()
        for at, name, anomaly in sorted(self._events, key=lambda one: (one[0], one[1])):
            await events.record(session, name, anomaly.id, at=at, account_id=self.account_id)

    def _watch(self, series_id: UUID, found: tuple[Phase, datetime]) -> dict[str, object]:
        phase, since = found
        is_rate = self._series[series_id].metric.endswith("_rate")
        remark = LEARNING_REMARKS[is_rate] if phase is Phase.LEARNING else None
        return {
            "account_id": self.account_id,
            "series_id": series_id,
            "phase": phase,
            "since": since,
            "remark": remark,
        }


def _upsert() -> Insert:
    statement = insert(Watch)
    changed = {name: statement.excluded[name] for name in ("phase", "since", "remark")}
    return statement.on_conflict_do_update(index_elements=["account_id", "series_id"], set_=changed)


def _measure(anomaly: Anomaly, change: Transition) -> None:
    """Take the figures of a transition: of rates per attempt, of volume as they are."""
    unit = change.size if anomaly.detector == "rate-drop" else 1.0
    anomaly.observed, anomaly.expected = change.observed, change.expected
    anomaly.lower, anomaly.upper = change.lower, change.upper
    anomaly.score, anomaly.sample_size = change.score, round(change.size)
    anomaly.shortfall = (change.expected - change.observed) * unit
    anomaly.shortfall_variance = ((change.upper - change.lower) / (2 * _95) * unit) ** 2


def _time(epoch: int) -> datetime:
    return datetime.fromtimestamp(epoch * 60, UTC)
