"""Writes insights: looks at the accounts about which something may be new, and says what is found.

Idempotent and safe in twos; each account has a transaction of its own, and one at a time writes about it.
"""

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession

from domain.catalog.models import Account
from domain.core.db import Database
from domain.incidents.models import Incident
from domain.insights import decline_mix, drops, facts, partner_incidents, queries, service
from domain.insights.findings import Finding
from domain.insights.models import InsightKind
from domain.insights.queries import Due

_BUDGET_S = 40.0


class Memory:
    """What this process has looked at already. Forgotten, it is looked at again, to the same effect."""

    def __init__(self) -> None:
        self._stamps: dict[UUID, object] = {}
        self._hours: dict[UUID, datetime] = {}

    def has_seen_incidents(self, due: Due) -> bool:
        return self._stamps.get(due.account_id, ()) == due.stamp

    def has_seen_mix(self, due: Due) -> bool:
        """A mix is looked at once an hour of event time."""
        hour = whole_hour(due.judged_until)
        return hour is None or self._hours.get(due.account_id) == hour

    def keep(self, due: Due) -> None:
        self._stamps[due.account_id] = due.stamp
        if hour := whole_hour(due.judged_until):
            self._hours[due.account_id] = hour


_memory = Memory()


async def write(
    db: Database,
    at: datetime,
    *,
    account_id: UUID | None = None,
    incident_id: UUID | None = None,
    memory: Memory = _memory,
) -> int:
    """Bring insights to what is known; how many are new or changed.

    Of one account, of those that an incident has reached, or of all. What does not fit the time is
    left to the next call. An account that fails does not stop the others: raises all failures at last.
    """
    began, changed, failures = time.monotonic(), 0, list[Exception]()
    async with db.read() as session:
        found = await queries.due(session, at, account_id=account_id, incident_id=incident_id)
    for due in found:
        if memory.has_seen_incidents(due) and memory.has_seen_mix(due):
            continue
        if time.monotonic() - began >= _BUDGET_S:
            break
        try:
            async with db.transaction() as session:
                changed += await _write_of(session, due, at=at, memory=memory)
        except OSError:
            raise
        except Exception as error:
            if getattr(error, "connection_invalidated", False):
                raise
            failures.append(error)
        else:
            memory.keep(due)
    if failures:
        raise ExceptionGroup("insights of some accounts were not written", failures)
    return changed


async def expire(db: Database, at: datetime) -> int:
    """End the insights that are past their time; how many."""
    async with db.transaction() as session:
        return await service.expire(session, at)


async def _write_of(session: AsyncSession, due: Due, *, at: datetime, memory: Memory) -> int:
    await session.execute(select(func.pg_advisory_xact_lock(func.hashtext(f"insights:{due.account_id}"))))
    account = await session.get_one(Account, due.account_id)
    changed = 0
    if not memory.has_seen_incidents(due):
        for incident_id in due.incident_ids:
            changed += await _tell_incident(session, account, incident_id, due=due, at=at)
    until = whole_hour(due.judged_until)
    if until is not None and not memory.has_seen_mix(due):
        ended = await facts.of_decline_mix(session, account, until=until)
        mix = decline_mix.findings(ended, at=at) if ended else []
        changed += await _put(session, mix, at=at)
        keys, prefix = [one.key for one in mix], decline_mix.prefix(account, until)
        changed += await service.retract(session, account.id, prefix=prefix, keep=keys, at=at)
    return changed


async def _tell_incident(
    session: AsyncSession, account: Account, incident_id: UUID, *, due: Due, at: datetime
) -> int:
    """By the account's own episodes; where it has none, by its share of what the incident is about."""
    incident = await session.get_one(Incident, incident_id)
    episodes = await queries.episodes(session, account.id, incident_id)
    if episodes and incident.kind in drops.KINDS:
        drop = await facts.of_drop(session, account, incident, episodes, judged_until=due.judged_until)
        # The same payments are not told of twice.
        shared = f"incident:{incident_id}:{InsightKind.PARTNER_INCIDENT}"
        ended = await service.retract(session, account.id, prefix=shared, at=at)
        return ended + await _put(session, [drops.finding(drop, at=at)], at=at)
    touched = await facts.of_partner_incident(session, account, incident, judged_until=due.judged_until)
    return await _put(session, [partner_incidents.finding(touched, at=at)], at=at) if touched else 0


async def _put(session: AsyncSession, found: Sequence[Finding], *, at: datetime) -> int:
    return sum([await service.put(session, one, at=at) for one in found])


def whole_hour(at: datetime | None) -> datetime | None:
    """The hour that `at` lies in."""
    return None if at is None else datetime.fromtimestamp(at.timestamp() // 3600 * 3600, UTC)
