"""Judges each closed minute of each account once, in order; what it finds it records in the same transaction.

The result does not depend on how the minutes are cut into calls, so a replay at any speed finds the same.
"""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession

from domain.anomalies import calendar, detectors, saved
from domain.anomalies.attribution import attribute
from domain.anomalies.expecting import DayExpected, Expectations, midnight, planned_at
from domain.anomalies.models import AccountWatch
from domain.anomalies.recording import Recorder
from domain.anomalies.saved import Nodes
from domain.catalog.models import Account
from domain.core.db import Database
from domain.core.failures import Failures
from domain.forecasts import service as forecasts
from domain.telemetry import queries as telemetry
from domain.telemetry.models import Series, Watermark
from domain.telemetry.queries import Counts
from domain.telemetry.windows import Resolution, Window

LONGEST = timedelta(hours=6)
"""The most that one transaction judges."""
_BUDGET_S = 40.0
_MINUTE = timedelta(minutes=1)
_expectations = Expectations()


async def judge(db: Database, at: datetime) -> int:
    """Judge what is closed at `at`; the number of account-minutes judged. Safe in twos.

    Accounts take turns, a stretch each, so that one that is far behind does not keep the others waiting;
    one that fails does not stop them: raises all failures at last.
    """
    began, minutes = time.monotonic(), 0
    failures = Failures("Some accounts cannot be judged.")
    async with db.read() as session:
        waiting = deque((await telemetry.judgeable(session, at)).items())
    while waiting and time.monotonic() - began < _BUDGET_S:
        account_id, until = waiting.popleft()
        with failures.apart(f"account {account_id}"):
            async with db.transaction() as session:
                judged = await judge_stretch(session, account_id, until, at=at)
            if judged:
                minutes += judged
                waiting.append((account_id, until))
    failures.tell()
    return minutes


async def judge_stretch(session: AsyncSession, account_id: UUID, until: datetime, *, at: datetime) -> int:
    """Judge the account's next minutes before `until`, within one local day; how many.

    0 when there are none, when somebody else is judging it, or while its forecasts are awaited.
    """
    watch = await _lock(session, account_id)
    if watch is None or watch.judged_until >= until:
        return 0
    series = await telemetry.watched(session, account_id)
    if not series:  # it sends no payments
        began, watch.judged_until = watch.judged_until, until
        return (until - began) // _MINUTE
    account = await session.get_one(Account, account_id)
    stretch = await _stretch(session, account, watch.judged_until, until, at=at)
    expected = await _expectations.day(session, account, series, stretch.day, at=at)
    if expected is None:
        return 0
    window = Window(stretch.from_, stretch.until, Resolution.MINUTE)
    counts = await telemetry.counts(session, series, window)
    rates, volume = saved.unpack(watch.state)
    recorder = await Recorder.load(session, account, series)
    _judge_families(stretch, counts, series, expected, (rates, volume), recorder)
    await attribute(session, recorder.opened, series, recorder.usual)
    await recorder.save(session)
    watch.state, watch.judged_until = saved.pack(rates, volume), stretch.until
    return window.buckets


@dataclass(frozen=True)
class _Stretch:
    """Minutes [from_, until) of one local day."""

    from_: datetime
    until: datetime
    day: date
    zone: ZoneInfo


async def _stretch(
    session: AsyncSession, account: Account, from_: datetime, until: datetime, *, at: datetime
) -> _Stretch:
    """Cut at local midnight and at the time when the next day's forecasts are asked for."""
    zone = ZoneInfo(account.time_zone)
    day = from_.astimezone(zone).date()
    tomorrow = day + timedelta(days=1)
    cuts = [midnight(tomorrow, zone), from_ + LONGEST, until]
    if from_ < planned_at(tomorrow, zone):
        cuts.append(planned_at(tomorrow, zone))
    else:
        await forecasts.plan_day(session, account, planned_at(tomorrow, zone), at)
    return _Stretch(from_, min(cuts), day, zone)


async def _lock(session: AsyncSession, account_id: UUID) -> AccountWatch | None:
    """The account's watch, from its first point on, locked; None while another holds it."""
    first = select(func.min(Watermark.oldest_at)).where(Watermark.account_id == account_id).scalar_subquery()
    await session.execute(
        insert(AccountWatch)
        .values(account_id=account_id, judged_from=first, judged_until=first, state=b"")
        .on_conflict_do_nothing()
    )
    return await session.scalar(
        select(AccountWatch).where(AccountWatch.account_id == account_id).with_for_update(skip_locked=True)
    )


def _judge_families(
    stretch: _Stretch,
    counts: Counts,
    series: Sequence[Series],
    expected: DayExpected,
    families: tuple[Nodes, Nodes],
    recorder: Recorder,
) -> None:
    """Move both kinds of detectors through the minutes that have data; the others say nothing."""
    rates, volume = families
    minutes = np.flatnonzero(counts.has_data)
    epoch = int(stretch.from_.timestamp()) // 60 + minutes
    of_day = calendar.minutes_of_day(epoch, stretch.zone)
    row_of = {one.id: row for row, one in enumerate(series)}
    rates.extend([one.id for one in series if one.metric.endswith("_rate")])
    volume.extend([one.id for one in series if not one.metric.endswith("_rate")])

    def columns(nodes: Nodes, values: NDArray[np.float64]) -> NDArray[np.float64]:
        return values[[row_of[one] for one in nodes.series_ids]][:, minutes].T

    attempts, good = columns(rates, counts.total), columns(rates, counts.good)
    usual = expected.columns(rates.series_ids, of_day)
    attempts = _unborn(rates, attempts)
    found = detectors.judge_rates(rates.state, at=epoch, attempts=attempts, good=good, expected=usual)
    recorder.take(rates, found, epoch, expected=found.expected * np.nan_to_num(attempts), observed=good)

    attempts = columns(volume, counts.total)
    usual = expected.columns(volume.series_ids, of_day)
    spread = expected.spreads(volume.series_ids, len(minutes))
    found = detectors.judge_volume(volume.state, at=epoch, attempts=attempts, expected=usual, calendar=spread)
    recorder.take(volume, found, epoch, expected=found.expected, observed=attempts)


def _unborn(nodes: Nodes, attempts: NDArray[np.float64]) -> NDArray[np.float64]:
    """NaN until a node's first attempt: it begins with its data, not with the call that first knew of it."""
    begun = np.maximum.accumulate(attempts > 0, axis=0) | np.isfinite(nodes.state.first_seen)
    return np.where(begun, attempts, np.nan)
